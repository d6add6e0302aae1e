//! XEP-0160: Best Practices for Handling Offline Messages.
pub mod store;
