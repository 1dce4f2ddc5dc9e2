//! Who comes in, and who is next.
//!
//! Two bounds, each fair between callers. [`Places`] bounds the requests inside, from before their
//! body is read. [`Queue`] stands in front of the engine and lets in whoever has had the least of
//! it. In both, a caller may take no more than what is left free: one caller alone takes at most
//! half, two at most a third each, and a newcomer always finds room (the dynamic threshold of
//! Choudhury and Hahne, 1998, with a factor of one).

mod places;
mod queue;

pub use places::{Permit, Places};
pub use queue::{Bounds, Full, Queue, Slot, Ticket};
