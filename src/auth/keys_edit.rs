//! Changing the keys file, as `porthole key` does: under a lock, whole or not at all, and with
//! everything else in the file, comments too, left as it is.

use std::{
    fs::File,
    io::Write,
    path::{Path, PathBuf},
};

use jiff::Timestamp;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table, value};

use super::{
    api_key::{self, Hasher},
    keys_file::{KeyEntry, KeySet, KeysFile, RightsTable, is_name},
};
use crate::{caller::Rights, config::Secret};

/// Why the file was not changed, in words for the operator.
#[derive(Debug, thiserror::Error)]
pub enum EditError {
    /// No key has this name.
    #[error("{1} has no key named {0:?}")]
    Unknown(String, PathBuf),
    /// One has it already.
    #[error("{1} has a key named {0:?} already; `porthole key rotate {0}` replaces it")]
    Taken(String, PathBuf),
    /// It cannot be a name.
    #[error("a name has 1 to 64 letters, digits, and -_.@")]
    Name,
    /// The file is not a keys file, or would not be one.
    #[error("{0}: {1}")]
    Broken(PathBuf, String),
    /// The file system or the system's randomness said no.
    #[error("{0}: {1}")]
    Io(PathBuf, String),
}

/// The keys file, to be changed.
#[derive(Debug)]
pub struct KeysEditor {
    path: PathBuf,
    hasher: Hasher,
}

impl KeysEditor {
    /// The file at `path`, which need not be there yet.
    pub fn new(path: &Path, pepper: Secret) -> Self {
        Self {
            path: path.to_path_buf(),
            hasher: Hasher::new(pepper),
        }
    }

    /// Adds a key and returns it: the only time it can be seen.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn create(
        &self,
        name: &str,
        expires: Option<Timestamp>,
        rights: &Rights,
    ) -> Result<Secret, EditError> {
        if !is_name(name) {
            return Err(EditError::Name);
        }
        self.edit(|file, keys| {
            if file.key.iter().any(|key| key.name == name && !key.disabled) {
                return Err(EditError::Taken(name.into(), self.path.clone()));
            }
            let rights = toml::Table::try_from(rights).map_err(|e| self.broken(&e))?;
            self.add(keys, name, expires, RightsTable(rights))
        })
    }

    /// Revokes every key of a name, and says how many there were.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn revoke(&self, name: &str) -> Result<usize, EditError> {
        self.edit(|_, keys| {
            let mut revoked = 0;
            for table in of_name(keys, name) {
                table["disabled"] = value(true);
                revoked += 1;
            }
            match revoked {
                0 => Err(EditError::Unknown(name.into(), self.path.clone())),
                revoked => Ok(revoked),
            }
        })
    }

    /// Adds a key with the same rights and end as the newest of this name, and lets the old ones
    /// end at `old_end`, if they do not end before.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn rotate(&self, name: &str, old_end: Timestamp) -> Result<Secret, EditError> {
        self.edit(|file, keys| {
            let now = Timestamp::now();
            let alive = |key: &&KeyEntry| {
                key.name == name && !key.disabled && key.expires.is_none_or(|end| end > now)
            };
            let newest = file.key.iter().rfind(alive);
            let Some(newest) = newest else {
                return Err(EditError::Unknown(name.into(), self.path.clone()));
            };
            for table in of_name(keys, name) {
                let ends = table.get("expires").and_then(Item::as_str);
                let ends = ends.and_then(|end| end.parse::<Timestamp>().ok());
                if ends.is_none_or(|end| end > old_end) {
                    table["expires"] = value(text(old_end));
                }
            }
            self.add(keys, name, newest.expires, newest.rights.clone())
        })
    }

    /// The keys, as the file has them.
    ///
    /// # Errors
    /// See [`EditError`].
    pub fn list(&self) -> Result<Vec<KeyEntry>, EditError> {
        let text = self.read()?;
        let file: KeysFile = toml::from_str(&text).map_err(|e| self.broken(&e))?;
        Ok(file.key)
    }

    fn add(
        &self,
        keys: &mut ArrayOfTables,
        name: &str,
        expires: Option<Timestamp>,
        rights: RightsTable,
    ) -> Result<Secret, EditError> {
        let key = api_key::generate().map_err(|e| self.io(&e))?;
        let entry = KeyEntry {
            name: name.into(),
            hash: self.hasher.hash(key.expose()).to_string(),
            created: text(Timestamp::now()).parse().ok(),
            expires: expires.and_then(|end| text(end).parse().ok()),
            disabled: false,
            rights,
        };
        let text = toml::to_string(&entry).map_err(|e| self.broken(&e))?;
        let mut table: DocumentMut = text.parse().map_err(|e| self.broken(&e))?;
        let mut table = std::mem::take(table.as_table_mut());
        for (_, item) in table.iter_mut() {
            // On one line: a table of its own would have its place in another document.
            item.make_value();
        }
        keys.push(table);
        Ok(key)
    }

    fn edit<T>(
        &self,
        change: impl FnOnce(&KeysFile, &mut ArrayOfTables) -> Result<T, EditError>,
    ) -> Result<T, EditError> {
        let lock = File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(self.path.with_extension("toml.lock"))
            .map_err(|e| self.io(&e))?;
        lock.lock().map_err(|e| self.io(&e))?;
        let text = self.read()?;
        let file: KeysFile = toml::from_str(&text).map_err(|e| self.broken(&e))?;
        let mut document: DocumentMut = text.parse().map_err(|e| self.broken(&e))?;
        let keys = document
            .entry("key")
            .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()));
        let Some(keys) = keys.as_array_of_tables_mut() else {
            return Err(EditError::Broken(
                self.path.clone(),
                "`key` is not written as [[key]] tables".into(),
            ));
        };
        let result = change(&file, keys)?;
        let text = document.to_string();
        KeySet::parse(&text, &self.hasher).map_err(|e| self.broken(&e.join("; ")))?;
        self.write(&text).map_err(|e| self.io(&e))?;
        Ok(result)
    }

    fn read(&self) -> Result<String, EditError> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
            Err(e) => Err(self.io(&e)),
        }
    }

    /// Writes beside the file, then takes its place. Nobody but the owner reads a new one.
    fn write(&self, text: &str) -> std::io::Result<()> {
        // A link stays a link: what it points to is replaced.
        let path = std::fs::canonicalize(&self.path).unwrap_or_else(|_| self.path.clone());
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty());
        let folder = folder.unwrap_or(Path::new("."));
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(text.as_bytes())?;
        if let Ok(old) = std::fs::metadata(&path) {
            new.as_file().set_permissions(old.permissions())?;
        }
        new.as_file().sync_all()?;
        new.persist(&path).map_err(|e| e.error)?;
        File::open(folder)?.sync_all()
    }

    fn broken(&self, reason: &dyn std::fmt::Display) -> EditError {
        EditError::Broken(self.path.clone(), reason.to_string())
    }

    fn io(&self, reason: &dyn std::fmt::Display) -> EditError {
        EditError::Io(self.path.clone(), reason.to_string())
    }
}

/// The tables of a name that are not revoked.
fn of_name<'a>(keys: &'a mut ArrayOfTables, name: &'a str) -> impl Iterator<Item = &'a mut Table> {
    keys.iter_mut().filter(move |table| {
        let disabled = table.get("disabled").and_then(Item::as_bool) == Some(true);
        table.get("name").and_then(Item::as_str) == Some(name) && !disabled
    })
}

/// A time in whole seconds.
fn text(time: Timestamp) -> String {
    format!("{time:.0}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{auth::keys_file::KeySet, caller::Limits};

    fn editor() -> (tempfile::TempDir, KeysEditor) {
        let folder = tempfile::tempdir().unwrap();
        let editor = KeysEditor::new(&folder.path().join("keys.toml"), Secret::default());
        (folder, editor)
    }

    fn is_valid(editor: &KeysEditor, key: &Secret) -> bool {
        let text = std::fs::read_to_string(&editor.path).unwrap();
        let set = KeySet::parse(&text, &editor.hasher).unwrap();
        let found = set.find(&editor.hasher.hash(key.expose()));
        found.is_some_and(|key| key.is_alive())
    }

    #[test]
    fn a_key_is_created_rotated_and_revoked() {
        let (_folder, editor) = editor();
        let limits = Limits {
            tokens_per_day: Some(5),
            ..Limits::default()
        };
        let rights = Rights {
            models: Some(vec!["demo".into()]),
            limits,
            model_limits: [("demo".to_string(), limits)].into(),
            ..Rights::default()
        };
        let first = editor.create("partner", None, &rights).unwrap();
        assert!(is_valid(&editor, &first));
        assert!(matches!(
            editor.create("partner", None, &rights),
            Err(EditError::Taken(..))
        ));
        let soon = Timestamp::now() + jiff::SignedDuration::from_secs(3600);
        let second = editor.rotate("partner", soon).unwrap();
        assert!(is_valid(&editor, &first) && is_valid(&editor, &second));
        let list = editor.list().unwrap();
        assert_eq!(list[0].expires.unwrap().as_second(), soon.as_second());
        assert_eq!(list[1].expires, None);
        assert_eq!(list[0].rights.0, list[1].rights.0);
        assert_eq!(editor.revoke("partner").unwrap(), 2);
        assert!(!is_valid(&editor, &first) && !is_valid(&editor, &second));
        assert!(matches!(
            editor.revoke("partner"),
            Err(EditError::Unknown(..))
        ));
        assert!(matches!(
            editor.rotate("partner", soon),
            Err(EditError::Unknown(..))
        ));
        let text = std::fs::read_to_string(&editor.path).unwrap();
        assert!(!text.contains(first.expose()) && !text.contains(second.expose()));
    }

    #[test]
    fn what_people_wrote_stays() {
        let (_folder, editor) = editor();
        let note = "# Ask Ann before you touch this.\n";
        std::fs::write(&editor.path, note).unwrap();
        editor.create("a", None, &Rights::default()).unwrap();
        editor.create("b", None, &Rights::default()).unwrap();
        editor.revoke("a").unwrap();
        let text = std::fs::read_to_string(&editor.path).unwrap();
        assert!(text.contains(note.trim()), "{text}");
        assert_eq!(text.matches("[[key]]").count(), 2, "{text}");
    }

    #[test]
    fn the_file_is_for_its_owner_alone_and_a_broken_one_is_left_alone() {
        use std::os::unix::fs::PermissionsExt;
        let (_folder, editor) = editor();
        editor.create("a", None, &Rights::default()).unwrap();
        let mode = std::fs::metadata(&editor.path)
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        std::fs::write(&editor.path, "[[key]\n").unwrap();
        assert!(matches!(
            editor.create("b", None, &Rights::default()),
            Err(EditError::Broken(..))
        ));
        assert_eq!(std::fs::read_to_string(&editor.path).unwrap(), "[[key]\n");
    }

    #[test]
    fn many_editors_at_once_lose_nothing() {
        let (_folder, editor) = editor();
        std::thread::scope(|scope| {
            for i in 0..16 {
                let editor = &editor;
                scope.spawn(move || {
                    editor
                        .create(&format!("k{i}"), None, &Rights::default())
                        .unwrap()
                });
            }
        });
        assert_eq!(editor.list().unwrap().len(), 16);
    }
}
