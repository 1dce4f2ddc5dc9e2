//! `porthole key`: the keys file, changed from the command line.

use std::fmt::Write;

use clap::{Args, Subcommand};
use ipnet::IpNet;
use jiff::{Span, Timestamp, tz::TimeZone};

use crate::{
    auth::keys_edit::KeysEditor,
    caller::{Limits, Rights, Role},
    config::AuthConfig,
};

/// What to do with the keys.
#[derive(Debug, Clone, Subcommand)]
pub enum KeyCommand {
    /// Make a key and print it, this once.
    Create(Create),
    /// List the keys, without what they are.
    List,
    /// Revoke every key of a name, at once.
    Revoke {
        /// The keys' name.
        name: String,
    },
    /// Make a new key with the same rights and print it; the old one ends after the overlap.
    Rotate {
        /// The keys' name.
        name: String,
        /// How long the old key stays valid: `24h`, `7d`, `0s`.
        #[arg(long, default_value = "24h")]
        overlap: Span,
    },
}

/// A key and what it may do. What is left out is not restricted.
#[derive(Debug, Clone, Args)]
pub struct Create {
    /// Its name: in the log, in metrics, and for `revoke` and `rotate`.
    name: String,
    /// When it ends: `90d`, `12h`, or a time such as `2027-01-31T00:00:00Z`.
    #[arg(long, value_parser = end)]
    expires: Option<Timestamp>,
    /// Models it may ask.
    #[arg(long, value_delimiter = ',')]
    models: Option<Vec<String>>,
    /// Requests a minute.
    #[arg(long)]
    rpm: Option<u64>,
    /// Tokens a minute.
    #[arg(long)]
    tpm: Option<u64>,
    /// Requests at once.
    #[arg(long)]
    concurrency: Option<u64>,
    /// Image pixels a minute, as the model sees them.
    #[arg(long)]
    pixels_per_minute: Option<u64>,
    /// Tokens a day (UTC).
    #[arg(long)]
    tokens_per_day: Option<u64>,
    /// Tokens a calendar month (UTC).
    #[arg(long)]
    tokens_per_month: Option<u64>,
    /// Tokens in the key's life.
    #[arg(long)]
    tokens_total: Option<u64>,
    /// Pixels that the model sees of one image.
    #[arg(long)]
    max_image_pixels: Option<u64>,
    /// Images in one request.
    #[arg(long)]
    max_images: Option<usize>,
    /// Origins of the pages that may use it (`https://app.example.com`).
    #[arg(long, value_delimiter = ',')]
    origins: Vec<String>,
    /// Networks that it may be used from (`10.0.0.0/8`).
    #[arg(long, value_delimiter = ',')]
    networks: Vec<IpNet>,
    /// What else it may do: `mint_tokens`, `priority`.
    #[arg(long, value_delimiter = ',', value_parser = role)]
    roles: Vec<Role>,
}

impl Create {
    fn rights(&self) -> Rights {
        Rights {
            models: self.models.clone(),
            origins: self.origins.clone(),
            networks: self.networks.clone(),
            roles: self.roles.clone(),
            max_image_pixels: self.max_image_pixels,
            max_images: self.max_images,
            limits: Limits {
                requests_per_minute: self.rpm,
                tokens_per_minute: self.tpm,
                concurrent_requests: self.concurrency,
                image_pixels_per_minute: self.pixels_per_minute,
                tokens_per_day: self.tokens_per_day,
                tokens_per_month: self.tokens_per_month,
                tokens_total: self.tokens_total,
            },
            ..Rights::default()
        }
    }
}

/// What to print.
#[derive(Debug, Default)]
pub struct Said {
    /// For standard output: a new key alone on its line, or the list.
    pub out: String,
    /// For standard error: what was done.
    pub note: String,
}

/// Carries a command out.
///
/// # Errors
/// In words: why the file was left as it was.
pub fn run(command: &KeyCommand, config: &AuthConfig) -> Result<Said, String> {
    let editor = KeysEditor::new(&config.keys_file, config.key_pepper.clone());
    let file = config.keys_file.display();
    let mut said = Said::default();
    match command {
        KeyCommand::Create(create) => {
            let key = editor.create(&create.name, create.expires, &create.rights());
            said.out = format!("{}\n", key.map_err(|e| e.to_string())?.expose());
            said.note = format!(
                "The key {} is in {file}, as a hash: this is the only time it is shown.\n",
                create.name
            );
        }
        KeyCommand::List => {
            for key in editor.list().map_err(|e| e.to_string())? {
                let time = |time: Option<Timestamp>, none: &str| {
                    time.map_or_else(|| none.to_string(), |time| format!("{time:.0}"))
                };
                let state = match key.expires {
                    _ if key.disabled => "revoked".to_string(),
                    Some(end) if end <= Timestamp::now() => format!("expired {end:.0}"),
                    end => format!("expires {}", time(end, "never")),
                };
                let rights = toml::Value::Table(key.rights.0).to_string();
                // Writing into a String cannot fail.
                let _ = writeln!(
                    said.out,
                    "{}\tcreated {}\t{state}\t{rights}",
                    key.name,
                    time(key.created, "unknown")
                );
            }
        }
        KeyCommand::Revoke { name } => {
            let keys = editor.revoke(name).map_err(|e| e.to_string())?;
            said.note = format!(
                "{keys} key(s) named {name} revoked in {file}; running servers notice within a second.\n"
            );
        }
        KeyCommand::Rotate { name, overlap } => {
            let old_end = after(*overlap)?;
            let key = editor.rotate(name, old_end).map_err(|e| e.to_string())?;
            said.out = format!("{}\n", key.expose());
            said.note = format!("The old key {name} is valid until {old_end:.0}.\n");
        }
    }
    Ok(said)
}

fn after(span: Span) -> Result<Timestamp, String> {
    let then = Timestamp::now().to_zoned(TimeZone::UTC).checked_add(span);
    then.map(|then| then.timestamp()).map_err(|e| e.to_string())
}

fn end(text: &str) -> Result<Timestamp, String> {
    match text.parse::<Span>() {
        Ok(span) if span.is_positive() => after(span),
        Ok(_) => Err("it lies in the past".into()),
        Err(_) => text.parse().map_err(|e: jiff::Error| e.to_string()),
    }
}

fn role(text: &str) -> Result<Role, String> {
    let value = serde_json::Value::String(text.into());
    serde_json::from_value(value).map_err(|_| "it is neither mint_tokens nor priority".into())
}
