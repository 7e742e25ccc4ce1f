/*! A service that asks a database: with a connection per query, or with a pool of them. */

use std::net::SocketAddr;
use std::thread;

use postgres::{Client, Config, NoTls};
use r2d2_postgres::PostgresConnectionManager;
use serde::{Deserialize, Serialize};
use tracer::sandbox::workload::Report;

use super::acts::fail;
use super::database::NAME;

/// What it asks.
const QUERY: &str = "SELECT 1";

/// For each query: opens a connection, asks, closes it.
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
        let mut report = Report::default();
        for &to in self.to.iter().cycle().take(self.queries) {
            match ask(to) {
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

fn ask(to: SocketAddr) -> Result<(), postgres::Error> {
    let mut client: Client = config(to).connect(NoTls)?;
    client.simple_query(QUERY)?;
    client.close()
}

fn config(to: SocketAddr) -> Config {
    let mut config = Config::new();
    config.host(&to.ip().to_string()).port(to.port());
    config.user(NAME).dbname(NAME);
    config
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
        let manager = PostgresConnectionManager::new(config(self.to), NoTls);
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
