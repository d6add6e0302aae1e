//! The rows a run can print, one file each.

use std::io::{self, Write as _};

use anyhow::Result;

use crate::options::{Options, RowKind};

mod numbered;

mod burst;
mod carbons;
mod idle;
mod login;
mod messages;
mod presence;
mod slow;

pub(crate) fn run(options: &Options) -> Result<()> {
    let common = &options.common;
    common.check()?;
    match &options.row {
        RowKind::Idle(row) => idle::run(common, row),
        RowKind::Login(row) => login::run(common, row),
        RowKind::Messages(row) => messages::run(common, row),
        RowKind::Burst(row) => burst::run(common, row),
        RowKind::Slow(row) => slow::run(common, row),
        RowKind::Presence(row) => presence::run(common, row),
        RowKind::Carbons(row) => carbons::run(common, row),
        RowKind::Register(accounts) => login::register(common, *accounts),
        RowKind::Accounts(accounts) => {
            let plan = common.plan(crate::login::Goal::Registration);
            let mut out = io::stdout().lock();
            for number in common.first..common.first + accounts.sessions {
                let (user, password) = (plan.account.user(number), &common.password);
                writeln!(out, "{user},{},{password}", common.domain)?;
            }
            Ok(out.flush()?)
        }
    }
}
