//! Building and running the application. Tests and production start through the same
//! [`Application::build`], tests on port 0.

mod drain;
mod listener;
mod stream;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::Arc,
};

use actix_web::{
    App, HttpServer, Resource, Route,
    dev::Server,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};

pub use self::drain::Handle;
use self::listener::Doors;
use crate::{
    config::{Secret, ServerConfig},
    lifecycle::Phase,
    metrics::Metrics,
    middleware::{
        authenticate,
        cors::{bad_origin, cors},
        guard::guard,
        limit, record,
    },
    routes::{chat_completions, completions, health, models, openapi, predict, responses, tokens},
    state::{AppState, Parts},
    tls::Certificate,
};

/// Every URL.
fn routes(app: &mut ServiceConfig) {
    app.service(at("/health", web::get().to(health::health)))
        .service(at("/ready", web::get().to(health::ready)))
        .service(at("/openapi.json", web::get().to(openapi::document)))
        .service(
            web::scope("/v1")
                .wrap(from_fn(limit))
                .wrap(from_fn(authenticate))
                .service(at(
                    "/chat/completions",
                    web::post().to(chat_completions::create),
                ))
                .service(at("/completions", web::post().to(completions::create)))
                .service(at("/responses", web::post().to(responses::create)))
                .service(at("/tokens", web::post().to(tokens::create)))
                .service(at("/models", web::get().to(models::list)))
                .service(at(
                    "/models/{model:.+}:predict",
                    web::post().to(predict::create),
                ))
                .service(at("/models/{model:.+}", web::get().to(models::retrieve))),
        )
        .default_service(web::to(health::not_found));
}

/// One route at a path; other methods get 405 in the one error shape.
fn at(path: &str, route: Route) -> Resource {
    web::resource(path)
        .route(route)
        .default_service(web::to(health::method_not_allowed))
}

/// What opens the API's listener, and the certificate it shows, where one is configured.
fn doors(
    config: &ServerConfig,
    metrics: &Arc<Metrics>,
) -> Result<(Doors, Option<Arc<Certificate>>), StartError> {
    let problem = |text| StartError::Problems(vec![text]);
    if let Some(origin) = bad_origin(config) {
        return Err(problem(format!(
            "server.cors_origins: {origin:?} is not an origin such as https://app.example.com"
        )));
    }
    let of_tls = |error| problem(format!("server.tls_certificate, tls_key: {error}"));
    let (chain, key) = (&config.tls_certificate, &config.tls_key);
    let certificate = if chain.as_os_str().is_empty() {
        None
    } else {
        Some(Certificate::load(chain, key, metrics.clone()).map_err(of_tls)?)
    };
    let doors = Doors::new(config, certificate.as_ref(), metrics.clone()).map_err(of_tls)?;
    Ok((doors, certificate))
}

/// A server whose listeners are bound.
pub struct Application {
    server: Server,
    admin: Option<Server>,
    certificate: Option<Arc<Certificate>>,
    port: u16,
    admin_port: Option<u16>,
    state: Data<AppState>,
    start_up_key: Option<Secret>,
}

/// Why a server cannot be built.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The API's address cannot be had.
    #[error("cannot listen on {0}: {1}")]
    Bind(SocketAddr, io::Error),
    /// The system refuses.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The configuration asks for what cannot be.
    #[error("cannot start:\n{}", .0.iter().map(|p| format!("  - {p}\n")).collect::<String>())]
    Problems(Vec<String>),
}

impl Application {
    /// Binds the listeners; from then on connections are accepted, whether the engine is there or
    /// not.
    ///
    /// # Errors
    /// The API's address cannot be bound, or the configuration asks for what cannot be. A taken
    /// admin address is only warned of.
    pub fn build(parts: Parts) -> Result<Self, StartError> {
        let bind = parts.config.server.bind;
        let admin_bind = parts.config.server.admin_bind;
        let (doors, certificate) = doors(&parts.config.server, &parts.metrics)?;
        let (state, start_up_key) = AppState::new(parts).map_err(StartError::Problems)?;
        let state = Data::new(state);
        let listener = TcpListener::bind(bind).map_err(|e| StartError::Bind(bind, e))?;
        let port = listener.local_addr()?.port();

        let (admin, admin_port) = match TcpListener::bind(admin_bind) {
            Ok(listener) => {
                let port = listener.local_addr()?.port();
                let state = state.clone();
                let factory = move || {
                    App::new()
                        .app_data(state.clone())
                        .service(at("/metrics", web::get().to(health::metrics)))
                        .service(at("/health", web::get().to(health::health)))
                        .service(at("/ready", web::get().to(health::ready)))
                        .default_service(web::to(health::not_found))
                };
                let server = HttpServer::new(factory)
                    .workers(1)
                    .disable_signals()
                    .listen(listener)?
                    .run();
                (Some(server), Some(port))
            }
            Err(error) => {
                tracing::warn!(%admin_bind, %error, "no metrics: server.admin_bind cannot be bound");
                (None, None)
            }
        };
        let shared = state.clone();
        let factory = move || {
            App::new()
                .app_data(shared.clone())
                .configure(routes)
                .wrap(cors(&shared.config.server))
                .wrap(from_fn(guard))
                .wrap(from_fn(record))
        };
        Ok(Self {
            server: listener::serve(listener, doors, factory)?,
            admin,
            certificate,
            port,
            admin_port,
            state,
            start_up_key,
        })
    }

    /// The API's port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The port of `/metrics`, if it could be bound.
    pub fn admin_port(&self) -> Option<u16> {
        self.admin_port
    }

    /// The key that was made because there are no credentials.
    pub fn start_up_key(&self) -> Option<&Secret> {
        self.start_up_key.as_ref()
    }

    /// A hand on the server, to end it with.
    pub fn handle(&self) -> Handle {
        Handle {
            state: self.state.clone(),
            server: self.server.handle(),
        }
    }

    /// Serves until it is ended through its [`Handle`].
    ///
    /// # Errors
    /// The server failed.
    pub async fn run(self) -> io::Result<()> {
        actix_web::rt::spawn(self.state.auth.keep_up());
        let admin = self.admin.map(|admin| {
            let handle = admin.handle();
            actix_web::rt::spawn(admin);
            handle
        });
        let certificate = self
            .certificate
            .map(|certificate| actix_web::rt::spawn(certificate.watch()));
        // It may be ended before its last connection is.
        let ended = self.state.lifecycle.reached(Phase::Ended);
        let mut server = actix_web::rt::spawn(self.server);
        let result = tokio::select! {
            () = ended => Ok(()),
            result = &mut server => match result {
                Ok(Ok(())) => {
                    self.state.lifecycle.reached(Phase::Ended).await;
                    Ok(())
                }
                Ok(Err(error)) => Err(error),
                Err(error) => Err(io::Error::other(error)),
            }
        };
        if let Some(certificate) = certificate {
            certificate.abort();
        }
        if let Some(admin) = admin {
            admin.stop(false).await;
        }
        result
    }
}
