//! The keys in use: those of the keys file, read anew when it changes, and the key of a start
//! without any.

use std::{
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::sync::watch;

use super::{
    api_key::{Hasher, KeyHash},
    keys_file::{Key, KeySet},
};
use crate::{
    caller::Caller,
    config::Secret,
    metrics::{Metrics, ReasonLabels},
};

/// How often the file is looked at. Its content is compared, not its date: Kubernetes swaps a link,
/// and two edits may fall into one tick of the file system's clock.
const LOOK: Duration = Duration::from_millis(250);
/// The name of the key that is made where there are no credentials.
const START_UP: &str = "start-up";

/// The keys in use.
#[derive(Debug)]
pub struct KeyRing {
    path: PathBuf,
    hasher: Hasher,
    start_up: Option<Secret>,
    set: watch::Sender<Arc<KeySet>>,
    seen: Mutex<Seen>,
    metrics: Arc<Metrics>,
}

/// What a look at the file gave: its text, or `None` where there is none.
type Look = Result<Option<String>, String>;

/// What the file was found to hold.
#[derive(Debug)]
struct Seen {
    /// When it was last used or complained of.
    used: Look,
    /// At the last look: an editor may be half-way through writing, so a change is used only when
    /// it is seen twice.
    last: Look,
}

impl KeyRing {
    /// Reads the keys file; a file that is not there holds no keys.
    ///
    /// # Errors
    /// What is wrong with it, a line each.
    pub fn new(path: PathBuf, pepper: Secret, metrics: Arc<Metrics>) -> Result<Self, Vec<String>> {
        let mut ring = Self {
            path,
            hasher: Hasher::new(pepper),
            start_up: None,
            set: watch::Sender::default(),
            seen: Mutex::new(Seen {
                used: Ok(None),
                last: Ok(None),
            }),
            metrics,
        };
        let text = read(&ring.path).map_err(|e| vec![e])?;
        let set = ring.parse(text.as_deref().unwrap_or_default())?;
        ring.set.send_replace(Arc::new(set));
        ring.seen = Mutex::new(Seen {
            used: Ok(text.clone()),
            last: Ok(text),
        });
        ring.metrics.keys_file_valid.set(1);
        Ok(ring)
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.set.borrow().is_empty()
    }

    /// Makes a key that lives as long as this process.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn make_start_up_key(&mut self) -> Result<Secret, String> {
        let key = super::api_key::generate().map_err(|e| e.to_string())?;
        self.start_up = Some(key.clone());
        let set = self.parse("").map_err(|e| e.join("; "))?;
        self.set.send_replace(Arc::new(set));
        Ok(key)
    }

    /// The key that was sent, if it is one of ours and can be used now.
    pub fn find(&self, key: &str) -> Option<Arc<Key>> {
        let hash = self.hasher.hash(key);
        let set = self.set.borrow();
        set.find(&hash).filter(|key| key.is_alive()).cloned()
    }

    /// A key of this name that can be used now: the one that ends last, if there are several.
    pub fn named(&self, name: &str) -> Option<Arc<Key>> {
        let set = self.set.borrow();
        let alive = set.named(name).iter().filter(|key| key.is_alive());
        alive
            .max_by_key(|key| (key.expires.is_none(), key.expires))
            .cloned()
    }

    /// Tells when keys change.
    pub fn changes(&self) -> watch::Receiver<Arc<KeySet>> {
        self.set.subscribe()
    }

    /// Looks at the file for as long as the ring lives.
    pub async fn keep_up(self: Arc<Self>) {
        let ring = Arc::downgrade(&self);
        drop(self);
        let mut tick = tokio::time::interval(LOOK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let Some(ring) = ring.upgrade() else { return };
            // A file system may hang; the async threads must not.
            let looked = tokio::task::spawn_blocking(move || ring.look()).await;
            if let Err(error) = looked {
                tracing::error!(%error, "looking at the keys file failed");
            }
        }
    }

    /// Reads the file if it has changed. A broken one leaves the last good keys in use.
    pub fn look(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let now = read(&self.path);
        let settled = now == seen.last;
        seen.last = now;
        if !settled || seen.last == seen.used {
            return;
        }
        seen.used = seen.last.clone();
        let parsed = match &seen.used {
            Ok(Some(text)) => self.parse(text),
            Ok(None) => Err(vec!["it has gone".to_string()]),
            Err(problem) => Err(vec![problem.clone()]),
        };
        let reason = if parsed.is_ok() { "ok" } else { "error" };
        self.metrics
            .keys_reloads
            .get_or_create(&ReasonLabels { reason })
            .inc();
        self.metrics.keys_file_valid.set(i64::from(parsed.is_ok()));
        match parsed {
            Ok(set) => {
                self.set.send_replace(Arc::new(set));
                tracing::info!(file = %self.path.display(), "the keys were read anew");
            }
            Err(problems) => tracing::error!(
                file = %self.path.display(),
                problems = problems.join("; "),
                "the keys file is broken; the last good keys stay in use"
            ),
        }
    }

    fn parse(&self, text: &str) -> Result<KeySet, Vec<String>> {
        let mut set = KeySet::parse(text, &self.hasher)?;
        if let Some(key) = &self.start_up {
            let caller = Caller {
                id: format!("key:{START_UP}"),
                label: START_UP.into(),
                key: Some(START_UP.into()),
                ..Caller::anonymous()
            };
            set.insert(Key {
                hash: self.hasher.hash(key.expose()),
                expires: None,
                caller: Arc::new(caller),
            });
        }
        Ok(set)
    }
}

/// The file's text; `None` where there is none.
fn read(path: &Path) -> Look {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e.to_string()),
    }
}

/// Ends when a credential is revoked.
#[derive(Debug, Clone)]
pub struct Lease {
    changes: watch::Receiver<Arc<KeySet>>,
    holder: Holder,
}

/// What a request hangs on.
#[derive(Debug, Clone)]
pub enum Holder {
    /// One key.
    Key(KeyHash),
    /// Any key of a name: a token minted with it.
    Name(String),
}

impl Lease {
    /// A lease that ends when `holder` is no longer among the keys. That a key expires does not end
    /// what it began.
    pub fn new(ring: &KeyRing, holder: Holder) -> Self {
        Self {
            changes: ring.changes(),
            holder,
        }
    }

    /// Waits for the end.
    pub async fn ended(&mut self) {
        loop {
            let holds = {
                let set = self.changes.borrow_and_update();
                match &self.holder {
                    Holder::Key(hash) => set.find(hash).is_some(),
                    Holder::Name(name) => !set.named(name).is_empty(),
                }
            };
            if !holds {
                return;
            }
            if self.changes.changed().await.is_err() {
                // The ring has gone with the server.
                std::future::pending::<()>().await;
            }
        }
    }
}
