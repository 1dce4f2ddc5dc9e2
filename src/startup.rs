//! Building and running the application. Tests and production start through the same
//! [`Application::build`], tests on port 0.

use std::{io, net::TcpListener, sync::Arc};

use actix_web::{
    App, HttpServer, Resource, Route,
    dev::Server,
    middleware::from_fn,
    web::{self, Data, ServiceConfig},
};
use tokio::sync::watch;

use crate::{
    config::Config,
    metrics::Metrics,
    middleware::record,
    routes::{chat_completions, health, models},
    state::{AppState, EngineState},
};

/// Every URL.
fn routes(app: &mut ServiceConfig) {
    app.service(at("/health", web::get().to(health::health)))
        .service(at("/ready", web::get().to(health::ready)))
        .service(
            web::scope("/v1")
                .service(at(
                    "/chat/completions",
                    web::post().to(chat_completions::create),
                ))
                .service(at("/models", web::get().to(models::list)))
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

/// A server whose listeners are bound.
pub struct Application {
    server: Server,
    admin: Option<Server>,
    port: u16,
    admin_port: Option<u16>,
}

impl Application {
    /// Binds the listeners; from then on connections are accepted, whether the engine is there or
    /// not.
    ///
    /// # Errors
    /// The API's address cannot be bound. A taken admin address is only warned of.
    pub fn build(
        config: Config,
        engine: watch::Receiver<EngineState>,
        metrics: Arc<Metrics>,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(config.server.bind)?;
        let port = listener.local_addr()?.port();
        let admin_bind = config.server.admin_bind;
        let state = Data::new(AppState::new(config, engine, metrics)?);

        let (admin, admin_port) = match TcpListener::bind(admin_bind) {
            Ok(listener) => {
                let port = listener.local_addr()?.port();
                let state = state.clone();
                let factory = move || {
                    App::new()
                        .app_data(state.clone())
                        .service(at("/metrics", web::get().to(health::metrics)))
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
        let factory = move || {
            App::new()
                .app_data(state.clone())
                .configure(routes)
                .wrap(from_fn(record))
        };
        let server = HttpServer::new(factory)
            // A client that closes its half is gone; its generation ends there and then.
            .h1_allow_half_closed(false)
            // Tokens are small writes; Nagle's algorithm would hold them back for 40 ms.
            .tcp_nodelay(true)
            .shutdown_timeout(30)
            .listen(listener)?
            .run();
        Ok(Self {
            server,
            admin,
            port,
            admin_port,
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

    /// Serves until told to stop by a signal.
    ///
    /// # Errors
    /// The server failed.
    pub async fn run(self) -> io::Result<()> {
        let admin = self.admin.map(|admin| {
            let handle = admin.handle();
            actix_web::rt::spawn(admin);
            handle
        });
        let result = self.server.await;
        if let Some(admin) = admin {
            admin.stop(false).await;
        }
        result
    }
}
