//! The file that keeps counts of days, months and lives through a restart.

use std::{
    collections::HashMap,
    path::PathBuf,
    sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError},
    thread::JoinHandle,
    time::{Duration, Instant},
};

use redb::{
    Builder, Database, ReadableDatabase, TableDefinition, TableError, backends::InMemoryBackend,
};

use super::{
    clock::{Clock, Period},
    usage::Usage,
};

type Row = (i64, u64, i64, u64, u64);
const USAGE: TableDefinition<'_, &str, Row> = TableDefinition::new("usage");

/// Changes are written together after this time, so that a crash loses no more.
const WRITE_AFTER: Duration = Duration::from_millis(250);
/// After a failure to open or to write, the next try.
const TRY_AGAIN: Duration = Duration::from_secs(5);
/// Memory for pages of the file.
const CACHE: usize = 16 << 20;

/// A lock; a panic elsewhere has left the data whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The counts on disk, opened when first needed. Its methods block, but for [`Store::put`].
pub(super) struct Store {
    path: PathBuf,
    clock: Arc<dyn Clock>,
    open: OnceLock<Open>,
    failed: Mutex<Option<Instant>>,
}

struct Open {
    file: Arc<File>,
    writer: Option<JoinHandle<()>>,
}

struct File {
    database: Database,
    pending: Mutex<Pending>,
    wake: Condvar,
}

#[derive(Default)]
struct Pending {
    /// Changed since the last write.
    changed: HashMap<Arc<str>, Usage>,
    /// What the writer has in hand.
    writing: Arc<HashMap<Arc<str>, Usage>>,
    stop: bool,
}

impl Store {
    /// A store at `path`, or in memory if that is empty; nothing is opened yet.
    pub(super) fn new(path: PathBuf, clock: Arc<dyn Clock>) -> Self {
        Self {
            path,
            clock,
            open: OnceLock::new(),
            failed: Mutex::default(),
        }
    }

    /// Opens the file, unless it is open or failed to be a moment ago.
    ///
    /// # Errors
    /// In words for the operator.
    pub(super) fn open(&self) -> Result<(), String> {
        self.file().map(|_| ())
    }

    fn file(&self) -> Result<&Arc<File>, String> {
        if let Some(open) = self.open.get() {
            return Ok(&open.file);
        }
        let mut failed = lock(&self.failed);
        // Another thread may have opened it while this one waited for the lock.
        if let Some(open) = self.open.get() {
            return Ok(&open.file);
        }
        let told = failed.is_some();
        if failed.is_some_and(|at| at.elapsed() < TRY_AGAIN) {
            return Err("limits.store could not be opened a moment ago".into());
        }
        match self.create() {
            Ok(open) => Ok(&self.open.get_or_init(|| open).file),
            Err(error) => {
                *failed = Some(Instant::now());
                let path = self.path.display();
                if !told {
                    tracing::error!(%path, %error, "limits.store cannot be opened; callers with limits of a day, a month or a life are refused");
                }
                Err(format!("limits.store {path} cannot be opened: {error}"))
            }
        }
    }

    fn create(&self) -> Result<Open, redb::Error> {
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        let database = if self.path.as_os_str().is_empty() {
            tracing::warn!(
                "limits.store is empty: counts of days, months and lives end with the process"
            );
            builder.create_with_backend(InMemoryBackend::new())?
        } else {
            builder.create(&self.path)?
        };
        let file = Arc::new(File {
            database,
            pending: Mutex::default(),
            wake: Condvar::new(),
        });
        let (writer, clock) = (file.clone(), self.clock.clone());
        let writer = std::thread::Builder::new()
            .name("limits-store".into())
            .spawn(move || writer.write_behind(&*clock))
            .map_err(redb::Error::Io)?;
        Ok(Open {
            file,
            writer: Some(writer),
        })
    }

    /// The count of a name; of an unknown one, nothing. `None` if the file cannot be read.
    pub(super) fn load(&self, name: &str) -> Option<Usage> {
        let file = self.file().ok()?;
        {
            let pending = lock(&file.pending);
            let known = pending.changed.get(name);
            if let Some(usage) = known.or_else(|| pending.writing.get(name)) {
                return Some(*usage);
            }
        }
        file.read(name)
            .inspect_err(|error| tracing::error!(%error, "limits.store cannot be read"))
            .ok()
    }

    /// Remembers a count; it is written in the background.
    pub(super) fn put(&self, name: &Arc<str>, usage: Usage) {
        if let Some(open) = self.open.get() {
            let mut pending = lock(&open.file.pending);
            pending.changed.insert(name.clone(), usage);
            if pending.changed.len() == 1 {
                open.file.wake.notify_one();
            }
        }
    }

    /// Waits until all counts are written, or `patience` is over.
    pub(super) async fn flush(&self, patience: Duration) {
        let Some(open) = self.open.get() else { return };
        let until = Instant::now() + patience;
        while !lock(&open.file.pending).is_written() && Instant::now() < until {
            tokio::time::sleep(WRITE_AFTER / 10).await;
        }
    }
}

impl Pending {
    fn is_written(&self) -> bool {
        self.changed.is_empty() && self.writing.is_empty()
    }
}

/// What is not written yet is written now.
impl Drop for Store {
    fn drop(&mut self) {
        let Some(open) = self.open.get_mut() else {
            return;
        };
        lock(&open.file.pending).stop = true;
        open.file.wake.notify_one();
        if let Some(writer) = open.writer.take() {
            // A panic of the writer was told by the panic itself.
            let _ = writer.join();
        }
    }
}

impl File {
    fn read(&self, name: &str) -> Result<Usage, redb::Error> {
        let read = self.database.begin_read()?;
        let table = match read.open_table(USAGE) {
            Ok(table) => table,
            Err(TableError::TableDoesNotExist(_)) => return Ok(Usage::default()),
            Err(error) => return Err(error.into()),
        };
        let row = table.get(name)?;
        Ok(row.map_or_else(Usage::default, |row| from_row(row.value())))
    }

    fn write_behind(&self, clock: &dyn Clock) {
        let mut swept = None;
        let mut told = false;
        loop {
            let (batch, stop) = self.next_batch();
            let period = Period::at(clock.unix());
            let sweep = (swept != Some(period.day)).then_some(&period);
            match self.write(&batch, sweep) {
                Ok(()) => {
                    swept = Some(period.day);
                    lock(&self.pending).writing = Arc::default();
                    told = false;
                }
                Err(error) => {
                    if !std::mem::replace(&mut told, true) {
                        tracing::error!(%error, "limits.store cannot be written; counts stay in memory until it can");
                    }
                    self.put_back(&batch);
                    self.pause();
                }
            }
            if stop {
                return;
            }
        }
    }

    /// Waits for changes and a little longer for more; whether these are the last.
    fn next_batch(&self) -> (Arc<HashMap<Arc<str>, Usage>>, bool) {
        let mut pending = lock(&self.pending);
        while pending.changed.is_empty() && !pending.stop {
            pending = self
                .wake
                .wait(pending)
                .unwrap_or_else(PoisonError::into_inner);
        }
        let waited = self
            .wake
            .wait_timeout_while(pending, WRITE_AFTER, |pending| !pending.stop)
            .unwrap_or_else(PoisonError::into_inner);
        pending = waited.0;
        pending.writing = Arc::new(std::mem::take(&mut pending.changed));
        (pending.writing.clone(), pending.stop)
    }

    /// Waits before the next try, unless there is none.
    fn pause(&self) {
        let wait = |pending: &mut Pending| !pending.stop;
        drop(
            self.wake
                .wait_timeout_while(lock(&self.pending), TRY_AGAIN, wait),
        );
    }

    fn put_back(&self, batch: &HashMap<Arc<str>, Usage>) {
        let mut pending = lock(&self.pending);
        pending.writing = Arc::default();
        for (name, usage) in batch {
            pending.changed.entry(name.clone()).or_insert(*usage);
        }
    }

    /// Writes a batch, and forgets counts whose days and months are over.
    fn write(
        &self,
        batch: &HashMap<Arc<str>, Usage>,
        sweep: Option<&Period>,
    ) -> Result<(), redb::Error> {
        let write = self.database.begin_write()?;
        {
            let mut table = write.open_table(USAGE)?;
            for (name, usage) in batch {
                table.insert(&**name, to_row(usage))?;
            }
            if let Some(period) = sweep {
                table.retain(|_, row| !from_row(row).is_over(period))?;
            }
        }
        write.commit()?;
        Ok(())
    }
}

fn to_row(usage: &Usage) -> Row {
    (
        usage.day,
        usage.day_tokens,
        usage.month,
        usage.month_tokens,
        usage.total_tokens,
    )
}

fn from_row((day, day_tokens, month, month_tokens, total_tokens): Row) -> Usage {
    Usage {
        day,
        day_tokens,
        month,
        month_tokens,
        total_tokens,
    }
}
