/*! A service that asks a database: with a connection per query, or with a pool of them. */

use std::net::SocketAddr;
use std::thread;

use r2d2_postgres::PostgresConnectionManager;
use r2d2_postgres::postgres::{Config, NoTls};
use serde::{Deserialize, Serialize};
use tracer::sandbox::workload::Report;

use super::acts::fail;
use super::database::NAME;

/// What it asks.
const QUERY: &str = "SELECT 1";

/// For each query: opens a connection, asks, drops it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Queries {
    /// The database's addresses, used in turn.
    pub(crate) to: Vec<SocketAddr>,
    /// How many queries.
    pub(crate) queries: usize,
    /// Stop after so many failures.
    pub(crate) stop_after: Option<u64>,
}

impl Queries {
    pub(super) fn play(&self) -> anyhow::Result<(Report, ())> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let mut report = Report::default();
        for &to in self.to.iter().cycle().take(self.queries) {
            match runtime.block_on(ask(to)) {
                Ok(()) => report.connected += 1,
                Err(error) => fail(&mut report, &error),
            }
            if self.stop_after == Some(report.failures()) {
                break;
            }
        }
        Ok((report, ()))
    }
}

async fn ask(to: SocketAddr) -> Result<(), tokio_postgres::Error> {
    let (client, connection) = tokio_postgres::Config::new()
        .host(to.ip().to_string())
        .port(to.port())
        .user(NAME)
        .dbname(NAME)
        .connect(tokio_postgres::NoTls)
        .await?;
    let connection = tokio::spawn(connection);
    client.simple_query(QUERY).await?;
    // Dropped without a Terminate before, as SQLx does. After one PgBouncer hangs up too, and
    // now and then first: it is then the one that keeps the TIME_WAIT.
    connection.abort();
    // The only outcome is that it was aborted.
    let _ = connection.await;
    Ok(())
}

/// Asks over a pool of connections, as many threads at once as it has connections.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Pooled {
    /// The database's address.
    pub(crate) to: SocketAddr,
    /// How many queries, of each thread.
    pub(crate) queries: usize,
    /// How many connections.
    pub(crate) connections: u32,
}

/// A pool of database connections, open until dropped.
type Pool = r2d2::Pool<PostgresConnectionManager<NoTls>>;

impl Pooled {
    pub(super) fn play(&self) -> anyhow::Result<(Report, Pool)> {
        let mut config = Config::new();
        config.host(&self.to.ip().to_string()).port(self.to.port());
        config.user(NAME).dbname(NAME);
        let manager = PostgresConnectionManager::new(config, NoTls);
        let pool = r2d2::Pool::builder()
            .max_size(self.connections)
            .build(manager)?;
        let mut report = Report::default();
        thread::scope(|scope| {
            let work = || -> anyhow::Result<()> {
                for _ in 0..self.queries {
                    pool.get()?.simple_query(QUERY)?;
                }
                Ok(())
            };
            let threads: Vec<_> = (0..self.connections).map(|_| scope.spawn(work)).collect();
            for thread in threads {
                match thread
                    .join()
                    .map_err(|_| anyhow::anyhow!("a thread panicked"))?
                {
                    Ok(()) => report.connected += self.queries as u64,
                    Err(error) => fail(&mut report, error.as_ref()),
                }
            }
            anyhow::Ok(())
        })?;
        Ok((report, pool))
    }
}
