//! What was measured: for each case, load and system a list of values of one metric, one a repetition.

use serde::{Deserialize, Serialize};

/// One metric of one system in one case, under one load.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Row {
    /// What was done, for instance `1 partition, 16 KiB`.
    pub(crate) case: String,
    /// Which tool made the load.
    pub(crate) load: String,
    pub(crate) system: String,
    /// With its unit behind it, for instance `cpu_s_per_gib`.
    pub(crate) metric: String,
    /// One for each repetition, in order.
    pub(crate) values: Vec<f64>,
}

/// All rows of a scenario, in the order in which they were first measured.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(transparent)]
pub(crate) struct Rows(pub(crate) Vec<Row>);

/// Smallest, middle, largest.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) min: f64,
    pub(crate) median: f64,
    pub(crate) max: f64,
}

impl Spread {
    /// Of any number of values but none.
    pub(crate) fn of(values: &[f64]) -> Option<Self> {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (min, max) = (*sorted.first()?, *sorted.last()?);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            *sorted.get(middle)?
        } else {
            f64::midpoint(*sorted.get(middle - 1)?, *sorted.get(middle)?)
        };
        Some(Self { min, median, max })
    }
}

impl Rows {
    /// One more repetition's value.
    pub(crate) fn record(&mut self, case: &str, load: &str, system: &str, metric: &str, value: f64) {
        let same = |row: &&mut Row| row.is(case, load, system, metric);
        match self.0.iter_mut().find(same) {
            Some(row) => row.values.push(value),
            None => self.0.push(Row {
                case: case.to_owned(),
                load: load.to_owned(),
                system: system.to_owned(),
                metric: metric.to_owned(),
                values: vec![value],
            }),
        }
    }

    /// The values of the repetitions; none where it was not measured.
    pub(crate) fn values(&self, case: &str, load: &str, system: &str, metric: &str) -> &[f64] {
        self.0.iter().find(|row| row.is(case, load, system, metric)).map_or(&[], |row| &row.values)
    }

    /// Every case and load in which the metric was measured, in order, each once.
    pub(crate) fn cases(&self, metric: &str) -> Vec<(String, String)> {
        let mut cases = vec![];
        for row in self.0.iter().filter(|row| row.metric == metric) {
            let case = (row.case.clone(), row.load.clone());
            if !cases.contains(&case) {
                cases.push(case);
            }
        }
        cases
    }

    /// Each case's ratio of one system to another, repetition by repetition: what was measured in turn is compared.
    pub(crate) fn ratios(&self, metric: &str, of: &str, to: &str) -> Vec<(String, Vec<f64>)> {
        let one = |(case, load): (String, String)| {
            let (above, below) = (self.values(&case, &load, of, metric), self.values(&case, &load, to, metric));
            let ratios: Vec<f64> = above
                .iter()
                .zip(below)
                .filter(|(_, below)| **below > 0.0)
                .map(|(above, below)| above / below)
                .collect();
            (!ratios.is_empty()).then(|| (format!("{case}, {load}"), ratios))
        };
        self.cases(metric).into_iter().filter_map(one).collect()
    }
}

impl Row {
    fn is(&self, case: &str, load: &str, system: &str, metric: &str) -> bool {
        self.case == case && self.load == load && self.system == system && self.metric == metric
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_are_taken_repetition_by_repetition() {
        let mut rows = Rows::default();
        for (a, b) in [(10.0, 5.0), (30.0, 10.0), (8.0, 8.0)] {
            rows.record("c", "l", "a", "m", a);
            rows.record("c", "l", "b", "m", b);
        }
        rows.record("other", "l", "a", "m", 1.0);
        assert_eq!(rows.ratios("m", "a", "b"), [("c, l".to_owned(), vec![2.0, 3.0, 1.0])]);
        assert_eq!(Spread::of(&[2.0, 3.0, 1.0]), Some(Spread { min: 1.0, median: 2.0, max: 3.0 }));
        assert_eq!(Spread::of(&[4.0, 2.0]), Some(Spread { min: 2.0, median: 3.0, max: 4.0 }));
        assert_eq!(Spread::of(&[]), None);
    }
}
