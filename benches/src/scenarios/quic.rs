//! The same load over each transport that Weir has: what encryption costs, and what QUIC costs beyond it.

use anyhow::Result;

use super::{Scenario, finish, in_turn, warmed};
use crate::goals::{self, Bound, Goal};
use crate::loads::{Batches, Load, measure, records_per_s, weir_bench};
use crate::rows::Rows;
use crate::settings::Settings;
use crate::systems::{Kind, Transport};

pub(super) const SCENARIO: Scenario =
    Scenario { name: "quic", what: "QUIC against TLS over TCP: CPU for each GiB", run, goals };

const TRANSPORTS: [Transport; 3] = [Transport::Plain, Transport::Tls, Transport::Quic];
const MIB_PER_S: u64 = 20;

fn run(settings: &Settings, rows: &mut Rows) -> Result<()> {
    let sizes: &[Batches] = if settings.quick { &[Batches::Default] } else { &[Batches::Default, Batches::Large] };
    for batches in sizes.iter().copied() {
        let systems = warmed(settings, &[Kind::Weir], &Load::plain(1, batches))?;
        let rates: &[Option<u64>] = if settings.quick { &[None] } else { &[Some(MIB_PER_S), None] };
        for rate in rates.iter().copied() {
            let speed = rate.map_or("full speed".into(), |rate| format!("{rate} MiB/s"));
            in_turn(settings, &systems, 1, |system, topic| {
                for transport in TRANSPORTS {
                    let load = Load { transport, ..Load::plain(1, batches) };
                    let time = if rate.is_some() { settings.rate } else { settings.full };
                    let produce = || weir_bench::produce(system, topic, &load, rate.map(records_per_s), time);
                    let case = format!("produce, {}, {speed}", batches.name());
                    measure(system, produce)?.record(rows, &case, "weir bench", transport.name());
                }
                for transport in TRANSPORTS {
                    let read = || weir_bench::consume(system, topic, transport);
                    let case = format!("consume, {}, {speed}", batches.name());
                    measure(system, read)?.record(rows, &case, "weir bench", transport.name());
                }
                Ok(())
            })?;
        }
        finish(systems)?;
    }
    Ok(())
}

fn goals(rows: &Rows) -> Vec<Goal> {
    let ratios = rows.ratios("cpu_s_per_gib", Transport::Quic.name(), Transport::Tls.name());
    goals::of("broker CPU per GiB over QUIC, of that over TLS", "×", None, Some(Bound::AtMost(1.5)), ratios)
}
