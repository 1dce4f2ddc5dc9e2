//! Fields that were accepted without effect.

/// Their names, each once, for the `x-porthole-ignored` header.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(Vec<&'static str>);

impl Ignored {
    /// Adds a name.
    pub fn add(&mut self, name: &'static str) {
        if !self.0.contains(&name) {
            self.0.push(name);
        }
    }

    /// The header's value; `None` where nothing was ignored.
    pub fn header(&self) -> Option<String> {
        (!self.0.is_empty()).then(|| self.0.join(", "))
    }
}
