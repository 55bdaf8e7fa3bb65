//! Owner: the server engineer. `container` uses `engine.networks.driver()` (the network crate's handle)
//! for prepare/release/connect. Connected containers: `engine.containers.endpoints_of(network id)`.
