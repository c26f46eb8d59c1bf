//! The client of the Engine API: one HTTP/1.1 connection per request, over a unix socket or TCP.
