//! The one binary of fast whole-system tests (and of slow ones, which run when `RUN_SLOW_TESTS=1` says so).
mod load;
mod scenarios;
