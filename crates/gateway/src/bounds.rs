//! What bounds a process's work for its clients.

use std::time::Duration;

/// Bounds of the data listener. Each tier has bounds of its own besides.
#[derive(Debug, Clone)]
pub struct GatewayBounds {
    /// Open connections of clients; more wait to be accepted.
    pub connections_max: usize,
    /// Bytes of one request's head.
    pub header_bytes_max: usize,
    /// Headers of one request.
    pub headers_max: usize,
    /// How long a head may take to arrive, counted from the end of the last call.
    pub header_timeout: Duration,
    /// How long a body may take to arrive.
    pub body_timeout: Duration,
    /// How long a client may take to read a piece of its answer.
    pub write_timeout: Duration,
    /// Bytes of all requests and answers in memory.
    pub in_flight_bytes_max: u64,
    /// Bytes of one answer that is not streamed.
    pub answer_bytes_max: u64,
    /// Bytes of all answers that are kept to be given again.
    pub cache_bytes_max: u64,
    /// Nesting of a request's JSON.
    pub json_depth_max: u32,
}

impl Default for GatewayBounds {
    fn default() -> Self {
        Self {
            // Two descriptors a call, and the usual hard limit of 65,536 allows twice that.
            connections_max: 16_384,
            // 64 KiB: four times what common servers take.
            header_bytes_max: 64 << 10,
            // 100: hyper's own; browsers send some 20.
            headers_max: 100,
            // 75 s: idle connections are kept as long as nginx keeps them.
            header_timeout: Duration::from_secs(75),
            // 32 MiB at 1 MB/s is 34 s.
            body_timeout: Duration::from_secs(60),
            // A reader that takes nothing for a minute has gone.
            write_timeout: Duration::from_secs(60),
            // 256 MiB: eight of the largest bodies, and a quarter of a small machine.
            in_flight_bytes_max: 256 << 20,
            // 64 MiB: 2,048 embeddings of 3,072 dimensions as base64 are 34 MB.
            answer_bytes_max: 64 << 20,
            // 64 MiB: four tenants' whole share, in a quarter of what requests may take.
            cache_bytes_max: 64 << 20,
            // 64: deeper than any schema that engines accept.
            json_depth_max: 64,
        }
    }
}
