//! Weir's own client against a running broker, over each of its transports: the tests that the client runs against its
//! own small cluster.

#![expect(clippy::unwrap_used, reason = "a test's helpers may panic as the test may")]
#![expect(clippy::duplicate_mod, reason = "the same tests, once for each transport")]

use std::any::Any;
use std::sync::Arc;

use client::{ClientConfig, TlsOptions};
use weir_tests::broker::Weir;
use weir_tests::clock::WallClock;

macro_rules! over {
    ($transport:ident, $address:expr) => {
        #[path = "."]
        mod $transport {
            #[path = "../../crates/client/tests/client/real.rs"]
            mod real;

            use super::*;

            async fn start() -> (ClientConfig, bool, Box<dyn Any + Send>) {
                let weir = tokio::task::spawn_blocking(Weir::start).await.unwrap().unwrap();
                let address: fn(&Weir) -> String = $address;
                let url = format!("{}://{}", stringify!($transport), address(&weir));
                let config = ClientConfig::new(url.parse().unwrap(), Arc::new(WallClock));
                let tls = TlsOptions { ca: Some(weir.ca()), ..TlsOptions::default() };
                (config.tls(tls), true, Box::new(Ended(Some(weir))))
            }
        }
    };
}

over!(kafka, Weir::bootstrap);
over!(kafkas, Weir::tls);
over!(quic, Weir::bootstrap);

/// A broker whose log is checked when the test ends well.
struct Ended(Option<Weir>);

impl Drop for Ended {
    fn drop(&mut self) {
        if let Some(weir) = self.0.take().filter(|_| !std::thread::panicking()) {
            weir.finish().unwrap();
        }
    }
}
