//! Signals: SIGTERM ends the server without breaking anything off; so does Ctrl-C, without waiting
//! for load balancers. A second of either ends what runs at once.

use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::startup::Handle;

/// Obeys signals from now on, in the background.
///
/// # Errors
/// In words for the operator: the system does not let it.
pub(super) fn obey(handle: Handle) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|e| format!("no signals: {e}"));
    let mut terminate = listen(SignalKind::terminate())?;
    let mut interrupt = listen(SignalKind::interrupt())?;
    let mut quit = listen(SignalKind::quit())?;
    tokio::spawn(async move {
        loop {
            let delay = tokio::select! {
                _ = terminate.recv() => None,
                _ = interrupt.recv() => Some(Duration::ZERO),
                _ = quit.recv() => Some(Duration::ZERO),
            };
            let handle = handle.clone();
            tokio::spawn(async move { handle.drain(delay).await });
        }
    });
    Ok(())
}
