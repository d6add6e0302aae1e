//! Administration. For now the control socket of `meerkatctl`.
pub mod control;
