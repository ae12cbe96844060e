//! Bars with their spread, as SVG: one figure of one scenario, each system a colour.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;

use super::Results;
use crate::rows::{Rows, Spread};

/// One plot: a scenario, a metric, and what it says.
struct Plot {
    scenario: &'static str,
    metric: &'static str,
    title: &'static str,
    axis: &'static str,
    file: &'static str,
}

const PLOTS: &[Plot] = &[
    Plot {
        scenario: "produce",
        metric: "mib_per_s",
        title: "Producing at full speed, acks=all (more is better)",
        axis: "MiB a second",
        file: "produce.svg",
    },
    Plot {
        scenario: "rate",
        metric: "cpu_s_per_gib",
        title: "The broker's CPU for a GiB produced at 20 MiB/s (less is better)",
        axis: "CPU seconds per GiB",
        file: "rate-cpu.svg",
    },
    Plot {
        scenario: "rate",
        metric: "p99_ms",
        title: "p99 of acknowledgements at 20 MiB/s (less is better)",
        axis: "milliseconds",
        file: "rate-p99.svg",
    },
    Plot {
        scenario: "consume",
        metric: "mib_per_s",
        title: "Consuming what was just written (more is better)",
        axis: "MiB a second",
        file: "consume.svg",
    },
    Plot {
        scenario: "quic",
        metric: "cpu_s_per_gib",
        title: "The broker's CPU for a GiB, by transport (less is better)",
        axis: "CPU seconds per GiB",
        file: "quic.svg",
    },
];

const COLOURS: [RGBColor; 4] =
    [RGBColor(0x1b, 0x6c, 0xa8), RGBColor(0xd9, 0x7b, 0x29), RGBColor(0x8a, 0x8a, 0x8a), RGBColor(0x4c, 0x9a, 0x5b)];
const WIDTH: u32 = 960;
/// Of one bar, and beside a group of them, in pixels.
const BAR: u32 = 16;
const GAP: u32 = 12;

/// Draws those whose scenarios were measured, into the folder; gives scenario and file name of each.
pub(super) fn draw_all(results: &Results, folder: &Path) -> Result<Vec<(&'static str, String)>> {
    let mut drawn = vec![];
    for plot in PLOTS {
        let Some(run) = results.scenarios.get(plot.scenario) else { continue };
        draw(plot, &run.rows, &folder.join(plot.file))?;
        drawn.push((plot.scenario, plot.file.to_owned()));
    }
    Ok(drawn)
}

/// Lying bars, a group for each case, so that the cases' names can be read.
fn draw(plot: &Plot, rows: &Rows, path: &Path) -> Result<()> {
    let mut systems: Vec<&str> = vec![];
    for row in rows.0.iter().filter(|row| row.metric == plot.metric && row.system != "disk") {
        if !systems.contains(&row.system.as_str()) {
            systems.push(&row.system);
        }
    }
    let mut cases = rows.cases(plot.metric);
    cases.retain(|(_, load)| load != "fdatasync");
    let bars = u32::try_from(systems.len())?;
    let group = bars * BAR + GAP;
    let height = 130 + group * u32::try_from(cases.len())?;
    let of = |case: &(String, String), system: &str| Spread::of(rows.values(&case.0, &case.1, system, plot.metric));
    let most = cases.iter().flat_map(|case| systems.iter().filter_map(move |system| of(case, system)));
    let most = most.map(|spread| spread.max).fold(0.0, f64::max) * 1.05;
    let area = SVGBackend::new(path, (WIDTH, height)).into_drawing_area();
    let wrong = |error: DrawingAreaErrorKind<_>| anyhow!("drawing {}: {error}", path.display());
    area.fill(&WHITE).map_err(wrong)?;
    let rows_high = i32::try_from(group)? * i32::try_from(cases.len())?;
    let mut chart = ChartBuilder::on(&area)
        .caption(plot.title, ("sans-serif", 20))
        .margin(12)
        .x_label_area_size(40)
        .y_label_area_size(300)
        .build_cartesian_2d(0.0..most.max(f64::MIN_POSITIVE), rows_high..0)
        .map_err(wrong)?;
    chart
        .configure_mesh()
        .disable_y_mesh()
        .disable_y_axis()
        .x_desc(plot.axis)
        .label_style(("sans-serif", 13))
        .draw()
        .map_err(wrong)?;
    let (bar, group) = (i32::try_from(BAR)?, i32::try_from(group)?);
    let mut top = i32::try_from(GAP)? / 2;
    for case in &cases {
        let name = format!("{}, {}", case.0, case.1);
        let middle = chart.plotting_area().map_coordinate(&(0.0, top + bar * i32::try_from(systems.len())? / 2));
        let style = ("sans-serif", 13).into_font().color(&BLACK);
        let style = style.pos(plotters::style::text_anchor::Pos::new(
            plotters::style::text_anchor::HPos::Right,
            plotters::style::text_anchor::VPos::Center,
        ));
        area.draw(&Text::new(name, (middle.0 - 8, middle.1), style)).map_err(wrong)?;
        for (index, system) in systems.iter().enumerate() {
            let Some(spread) = of(case, system) else { continue };
            let y = top + bar * i32::try_from(index)?;
            let colour = COLOURS[index % COLOURS.len()];
            chart
                .draw_series([Rectangle::new([(0.0, y), (spread.median, y + bar - 3)], colour.filled())])
                .map_err(wrong)?;
            // From the smallest to the largest.
            let at = y + bar / 2 - 1;
            chart.draw_series([PathElement::new([(spread.min, at), (spread.max, at)], BLACK)]).map_err(wrong)?;
        }
        top += group;
    }
    for (index, system) in systems.iter().enumerate() {
        let colour = COLOURS[index % COLOURS.len()];
        chart
            .draw_series([Rectangle::new([(0.0, 0), (0.0, 0)], colour.filled())])
            .map_err(wrong)?
            .label(*system)
            .legend(move |(x, y)| Rectangle::new([(x, y - 5), (x + 12, y + 5)], colour.filled()));
    }
    chart
        .configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK)
        .label_font(("sans-serif", 13))
        .draw()
        .map_err(wrong)?;
    area.present().map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plot_names_its_cases_systems_and_unit() {
        let mut rows = Rows::default();
        for (system, values) in [("Weir", [90.0, 100.0]), ("Kafka, page cache", [40.0, 60.0])] {
            for value in values {
                rows.record("1 partition, 16 KiB", "weir bench", system, "mib_per_s", value);
            }
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        draw(&PLOTS[0], &rows, file.path()).unwrap();
        let svg = std::fs::read_to_string(file.path()).unwrap();
        for part in ["1 partition, 16 KiB, weir bench", "Kafka, page cache", "MiB a second", "more is better"] {
            assert!(svg.contains(part), "{part}: {svg}");
        }
    }
}
