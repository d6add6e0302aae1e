//! tmp
use crate::storage::{Db, Error};
#[derive(Clone)] pub struct InFlight { pub id: i64 }
impl InFlight { pub fn of(_s: &protocol::Stanza) -> Self { todo!() } pub fn to_stanza(&self) -> Option<protocol::Stanza> { None } }
pub struct InFlightStore;
impl InFlightStore { pub fn new(_: Db) -> Self { Self } pub async fn insert(&self, _r: Vec<InFlight>) -> Result<Vec<i64>, Error> { todo!() } pub async fn delete(&self, _i: &[i64]) -> Result<(), Error> { todo!() } pub async fn list(&self, _n: u32) -> Result<Vec<InFlight>, Error> { todo!() } }
