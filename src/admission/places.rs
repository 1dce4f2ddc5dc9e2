//! A bounded amount of something that requests hold from before their body is read: places, and
//! bytes of bodies.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// A bounded amount, shared fairly.
#[derive(Debug)]
pub struct Places {
    size: usize,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_caller: HashMap<String, usize>,
}

/// A part of it; dropping it gives it back.
#[derive(Debug)]
pub struct Permit {
    places: Arc<Places>,
    caller: String,
    amount: usize,
}

impl Places {
    /// `size` of it.
    pub fn new(size: usize) -> Arc<Self> {
        Arc::new(Self {
            size,
            taken: Mutex::default(),
        })
    }

    /// As much for a request of this caller, or `None` where the caller would then have more than
    /// was left free.
    pub fn take(self: &Arc<Self>, caller: &str, amount: usize) -> Option<Permit> {
        let mut permit = Permit {
            places: self.clone(),
            caller: caller.to_string(),
            amount: 0,
        };
        permit.grow(amount).then_some(permit)
    }

    fn lock(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit {
    /// Takes more; whether it could be had.
    #[must_use]
    pub fn grow(&mut self, amount: usize) -> bool {
        let mut taken = self.places.lock();
        let own = taken.by_caller.get(&self.caller).copied().unwrap_or(0);
        if own + amount > self.places.size - taken.all {
            return false;
        }
        taken.all += amount;
        taken.by_caller.insert(self.caller.clone(), own + amount);
        self.amount += amount;
        true
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let mut taken = self.places.lock();
        taken.all -= self.amount;
        if let Some(own) = taken.by_caller.get_mut(&self.caller) {
            *own -= self.amount;
            if *own == 0 {
                taken.by_caller.remove(&self.caller);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_takes_no_more_than_is_left_free() {
        let places = Places::new(8);
        let take = |caller| places.take(caller, 1);
        let hog: Vec<_> = std::iter::from_fn(|| take("hog")).collect();
        assert_eq!(hog.len(), 4);
        let second: Vec<_> = std::iter::from_fn(|| take("second")).collect();
        assert_eq!(second.len(), 2);
        assert!(take("newcomer").is_some());
        drop((hog, second));
        assert_eq!(places.lock().all, 0);
        assert!(places.lock().by_caller.is_empty());
    }

    #[test]
    fn what_cannot_grow_stays_as_it_is() {
        let places = Places::new(10);
        let mut permit = places.take("a", 3).unwrap();
        assert!(permit.grow(2));
        assert!(!permit.grow(1));
        assert_eq!(places.lock().all, 5);
        assert!(places.take("b", 6).is_none());
        drop(permit);
        assert_eq!(places.lock().all, 0);
    }
}
