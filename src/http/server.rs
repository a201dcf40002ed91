//! The TCP side: listens, takes connections, and keeps their number, and the time that they may do nothing, within bounds.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{ConnectInfo, Request};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use socket2::SockRef;
use thiserror::Error;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use super::App;
use crate::config::Listen;

/// Why HTTP could not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartHttpError {
    /// An address could not be bound.
    #[error("cannot listen on TCP {address}: {error}")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// None of the default addresses can be had.
    #[error("no TCP address to listen on")]
    NoAddress,
}

/// The running HTTP server. Stops in [`HttpServer::shutdown`].
pub struct HttpServer {
    addresses: Vec<SocketAddr>,
    stop: watch::Sender<bool>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

/// How often the rate limiter forgets addresses that have been quiet.
const HOUSEKEEPING: Duration = Duration::from_secs(60);

/// A connection that has asked for nothing, or not read its answer, for this long is closed. A page asks every second.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// After the system could not give a connection, for want of descriptors for example.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const BACKLOG: u32 = 1_024;

impl HttpServer {
    /// Listens, and serves `max_connections` at once until told to stop. Others wait in the system's queue.
    ///
    /// # Errors
    ///
    /// If an address is taken.
    pub fn start(app: &Arc<App>, max_connections: usize) -> Result<Self, StartHttpError> {
        let listeners = bind(&app.http.listen)?;
        let addresses = listeners.iter().filter_map(|listener| listener.local_addr().ok()).collect();
        let (stop, stopped) = watch::channel(false);
        let slots = Arc::new(Semaphore::new(max_connections));
        let accept = |listener| tokio::spawn(accept(listener, Arc::clone(app), stopped.clone(), Arc::clone(&slots)));
        let mut tasks: Vec<_> = listeners.into_iter().map(accept).collect();
        tasks.push(tokio::spawn(housekeeping(Arc::clone(app), stopped)));
        Ok(Self { addresses, stop, tasks })
    }

    /// The addresses it listens on.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// Takes no more connections, lets running requests end for `grace`, then cuts them off.
    pub async fn shutdown(self, grace: Duration) {
        // Without a receiver there is nobody left to tell.
        let _ = self.stop.send(true);
        let deadline = tokio::time::Instant::now() + grace;
        for mut task in self.tasks {
            if tokio::time::timeout_at(deadline, &mut task).await.is_err() {
                task.abort();
            }
        }
    }
}

/// Takes connections until it is told to stop, then waits for the requests that are under way.
async fn accept(listener: TcpListener, app: Arc<App>, mut stopped: watch::Receiver<bool>, slots: Arc<Semaphore>) {
    let routes = app.routes();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(IDLE_TIMEOUT);
    let graceful = GracefulShutdown::new();
    // Those that are still there when this task is aborted are cut off.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = async {
            if slots.available_permits() == 0 {
                tracing::warn!("as many HTTP connections as there may be: others wait");
            }
            let slot = Arc::clone(&slots).acquire_owned().await.expect("nobody closes it");
            (slot, listener.accept().await)
        };
        let (slot, accepted) = tokio::select! {
            accepted = accepted => accepted,
            // An error means that whoever could tell is gone.
            _ = stopped.wait_for(|stop| *stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                tracing::warn!(%error, "cannot take an HTTP connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        // For those that ask and do not read. Where the system does not know it, there is their number's limit.
        let _ = SockRef::from(&stream).set_tcp_user_timeout(Some(IDLE_TIMEOUT));
        let routes = TowerToHyperService::new(routes.clone());
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(ConnectInfo(peer));
            routes.call(request)
        });
        let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
        connections.spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, %peer, "an HTTP connection broke");
            }
            drop(slot);
        });
    }
    drop(listener);
    graceful.shutdown().await;
}

async fn housekeeping(app: Arc<App>, mut stopped: watch::Receiver<bool>) {
    let mut interval = tokio::time::interval(HOUSEKEEPING);
    loop {
        tokio::select! {
            _ = interval.tick() => app.limiter.forget_quiet(),
            _ = stopped.wait_for(|stop| *stop) => return,
        }
    }
}

fn bind(listen: &Listen) -> Result<Vec<TcpListener>, StartHttpError> {
    let mut listeners: Vec<TcpListener> = Vec::new();
    for &address in &listen.addresses {
        match bind_one(address) {
            Ok(listener) => listeners.push(listener),
            // A system without IPv6, or without IPv4, has the other.
            Err(error) if !listen.all_required && lacks_family(&error) => {}
            Err(error) => return Err(StartHttpError::Bind { address, error }),
        }
    }
    if listeners.is_empty() { Err(StartHttpError::NoAddress) } else { Ok(listeners) }
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(address),
        socket2::Type::STREAM,
        Some(socket2::Protocol::TCP),
    )?;
    if address.is_ipv6() {
        // IPv4 has a listener of its own.
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    TcpSocket::from_std_stream(socket.into()).listen(BACKLOG)
}

fn lacks_family(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}
