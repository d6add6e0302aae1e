//! Turns sockets into bytes for the stream reader: TCP sockets, listeners, TLS records, certificates.
