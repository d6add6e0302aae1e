//! Opens connections to one database, whatever it is.
use std::sync::Arc;

use super::Error;
use super::connection::Connection;
use super::problem::classify;
use super::server::ServerConnector;
use super::sqlite;

/// Opens connections to one database. Cheap to clone.
#[derive(Clone)]
pub(super) enum Connector {
    Sqlite(sqlite::Connector),
    Server(Arc<ServerConnector>),
}

impl Connector {
    /// Whether the database lives in its one connection, which must be shared and never be replaced.
    pub(super) fn is_memory(&self) -> bool {
        match self {
            Self::Sqlite(connector) => connector.is_memory(),
            Self::Server(_) => false,
        }
    }

    /// Whether a connection may be lost at any time, and be amid an answer when its user is dropped.
    pub(super) fn is_server(&self) -> bool {
        match self {
            Self::Sqlite(_) => false,
            Self::Server(_) => true,
        }
    }

    /// The first connection of a start, which may write.
    pub(super) async fn open_first(&self) -> Result<Connection, Error> {
        match self {
            Self::Sqlite(_) => self.open_writer().await,
            Self::Server(connector) => connector.open_first().await,
        }
    }

    /// A connection that may write.
    pub(super) async fn open_writer(&self) -> Result<Connection, Error> {
        match self {
            Self::Sqlite(connector) => {
                let opened = connector.open_writer().await;
                opened
                    .map(Connection::Sqlite)
                    .map_err(|error| classify("open", error))
            }
            Self::Server(connector) => connector.open(false).await,
        }
    }

    /// A connection that may only read, unless it is the only one.
    pub(super) async fn open_reader(&self) -> Result<Connection, Error> {
        match self {
            Self::Sqlite(connector) => {
                let opened = connector.open_reader().await;
                opened
                    .map(Connection::Sqlite)
                    .map_err(|error| classify("open", error))
            }
            Self::Server(connector) => connector.open(true).await,
        }
    }
}
