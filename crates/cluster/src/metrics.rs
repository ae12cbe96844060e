//! What a broker tells of its part in the cluster.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use crate::node::Role;

/// The figures. A clone is the same figures.
#[derive(Debug, Clone, Default)]
pub struct Metrics {
    leads: Gauge,
    epoch: Gauge,
    changes: Counter,
}

impl Metrics {
    /// Makes them part of what `/metrics` shows.
    pub fn register(&self, registry: &mut Registry) {
        registry.register("weir_controller", "1 where this broker is the controller", self.leads.clone());
        let epoch = "Epoch of the controller that this broker hears from, 0 when it hears from none";
        registry.register("weir_controller_epoch", epoch, self.epoch.clone());
        registry.register(
            "weir_controller_changes",
            "Times that another controller was followed",
            self.changes.clone(),
        );
    }

    pub(crate) fn changed(&self, role: &Role) {
        self.leads.set(i64::from(matches!(role, Role::Leading(_))));
        let epoch = match role {
            Role::Following(followed) => followed.epoch,
            Role::Leading(leading) => leading.epoch,
            Role::Looking | Role::Opening(_) | Role::Ended(_) => 0,
        };
        self.epoch.set(i64::try_from(epoch).unwrap_or(i64::MAX));
        if epoch > 0 {
            self.changes.inc();
        }
    }
}
