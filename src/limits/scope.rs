//! The shares that one request counts against.

use std::sync::Arc;

use crate::{
    caller::{Caller, Limits},
    config::LimitsConfig,
};

/// One share: a caller's, or a caller's of one model.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Its name in memory, in the store and in Redis. The braces are a hash tag: all shares of a
    /// key and of the tokens that it minted live on one node of a cluster. The lengths in front
    /// keep two different shares from having one name, whatever ids are made of.
    pub(super) name: Arc<str>,
    /// The model, where the share is of one.
    pub(super) model: Option<Arc<str>>,
    /// What the share is; no field is 0.
    pub(super) limits: Limits,
}

/// The shares of a request, those of all models first.
pub(super) type Scopes = Arc<[Scope]>;

fn name(root: &str, id: &str, model: &str) -> Arc<str> {
    let id = if id == root { "" } else { id };
    format!("{}.{}{{porthole:{root}}}{id}{model}", root.len(), id.len()).into()
}

/// The caller and the key behind it.
fn holders(caller: &Caller) -> impl Iterator<Item = &Caller> {
    let key = caller.parent.as_deref();
    std::iter::once(caller).chain(key.filter(|key| key.id != caller.id))
}

/// The shares of all models.
pub(super) fn of_caller(caller: &Caller, config: &LimitsConfig) -> Scopes {
    holders(caller)
        .filter_map(|holder| {
            let limits = holder.rights.limits.or(&config.default);
            (!limits.is_empty()).then(|| Scope {
                name: name(caller.root(), &holder.id, ""),
                model: None,
                limits,
            })
        })
        .collect()
}

/// The shares of one model.
pub(super) fn of_model(caller: &Caller, model: &str, config: &LimitsConfig) -> Vec<Scope> {
    let default = config.models.iter().find(|entry| entry.model == model);
    let default = default.map_or_else(Limits::default, |entry| entry.limits);
    holders(caller)
        .filter_map(|holder| {
            let own = holder.rights.model_limits.get(model).copied();
            let limits = own.unwrap_or_default().or(&default);
            (!limits.is_empty()).then(|| Scope {
                name: name(caller.root(), &holder.id, model),
                model: Some(model.into()),
                limits,
            })
        })
        .collect()
}
