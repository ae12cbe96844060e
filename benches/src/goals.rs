//! Goals: a bound that must hold and one that is aimed at, and whether what was measured keeps them.

use crate::rows::Spread;

/// On which side of a number a value has to be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

impl Bound {
    fn holds(self, value: f64) -> bool {
        match self {
            Self::AtLeast(bound) => value >= bound,
            Self::AtMost(bound) => value <= bound,
        }
    }
}

impl std::fmt::Display for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(bound) => write!(f, "≥ {bound}"),
            Self::AtMost(bound) => write!(f, "≤ {bound}"),
        }
    }
}

/// How a measurement stands to its goal, by its median.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Aim,
    Must,
    Missed,
    /// There is no bound: it is reported.
    Reported,
}

impl std::fmt::Display for Verdict {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Aim => "aim reached",
            Self::Must => "kept",
            Self::Missed => "**missed**",
            Self::Reported => "reported",
        })
    }
}

/// One line of the table of goals.
#[derive(Debug, Clone)]
pub(crate) struct Goal {
    pub(crate) what: &'static str,
    pub(crate) case: String,
    /// Of what the bounds speak, for instance `×` or `ms`.
    pub(crate) unit: &'static str,
    pub(crate) must: Option<Bound>,
    pub(crate) aim: Option<Bound>,
    pub(crate) spread: Spread,
}

impl Goal {
    pub(crate) fn verdict(&self) -> Verdict {
        let keeps = |bound: Option<Bound>| bound.map(|bound| bound.holds(self.spread.median));
        match (keeps(self.must), keeps(self.aim)) {
            (Some(false), _) => Verdict::Missed,
            (_, Some(true)) => Verdict::Aim,
            (Some(true), _) => Verdict::Must,
            (None, Some(false) | None) => Verdict::Reported,
        }
    }
}

/// One goal for each case that was measured.
pub(crate) fn of(
    what: &'static str,
    unit: &'static str,
    must: Option<Bound>,
    aim: Option<Bound>,
    cases: Vec<(String, Vec<f64>)>,
) -> Vec<Goal> {
    let one =
        |(case, values): (String, Vec<f64>)| Some(Goal { what, case, unit, must, aim, spread: Spread::of(&values)? });
    cases.into_iter().filter_map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_decides() {
        let goal = |median| Goal {
            what: "speed",
            case: String::new(),
            unit: "×",
            must: Some(Bound::AtLeast(1.0)),
            aim: Some(Bound::AtLeast(2.0)),
            spread: Spread { min: 0.1, median, max: 9.0 },
        };
        assert_eq!(goal(0.9).verdict(), Verdict::Missed);
        assert_eq!(goal(1.0).verdict(), Verdict::Must);
        assert_eq!(goal(2.5).verdict(), Verdict::Aim);
        assert_eq!(Goal { must: None, aim: None, ..goal(0.9) }.verdict(), Verdict::Reported);
        assert_eq!(Goal { must: Some(Bound::AtMost(0.5)), aim: None, ..goal(0.4) }.verdict(), Verdict::Must);
    }
}
