//! The exporter that every binary serves: metrics, health, readiness.
