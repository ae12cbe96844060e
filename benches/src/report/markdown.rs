//! Tables of the results, put into the text of `benches/text.md.in` in place of its marks: `{{goals}}`, `{{run:NAME}}` and
//! `{{table:NAME}}`.

use std::fmt::Write as _;

use anyhow::{Result, ensure};

use super::Results;
use crate::goals::{Bound, Goal};
use crate::rows::{Rows, Spread};
use crate::scenarios;

const NOT_MEASURED: &str = "*Not measured yet.*\n";

/// The page.
pub(crate) fn page(text: &str, results: &Results, plots: &[(&'static str, String)]) -> Result<String> {
    let mut page = text.replace("{{goals}}", &all_goals(results));
    for scenario in scenarios::ALL {
        let mark = format!("{{{{table:{}}}}}", scenario.name);
        ensure!(page.contains(&mark), "benches/text.md.in has no {mark}");
        let mut table = match results.scenarios.get(scenario.name) {
            None => NOT_MEASURED.to_owned(),
            Some(run) => {
                let machine = &run.machine;
                let line = format!(
                    "{} UTC, commit {}, {} repetitions; {} cores of {}, {} GiB, Linux {}, disk {}; load before: {}.\n\n",
                    run.date,
                    run.commit,
                    run.repetitions,
                    machine.cores,
                    machine.cpu,
                    machine.memory_gib,
                    machine.kernel,
                    machine.disk,
                    machine.load_before
                );
                line + &measured(&run.rows)
            }
        };
        for (_, file) in plots.iter().filter(|(name, _)| *name == scenario.name) {
            write!(table, "\n![{}](benchmarks/{file})\n", scenario.what)?;
        }
        page = page.replace(&mark, table.trim_end());
    }
    ensure!(!page.contains("{{"), "benches/text.md.in has a mark that nothing stands for");
    Ok(page)
}

/// What a run prints of a scenario.
pub(crate) fn scenario(rows: &Rows, goals: &[Goal]) -> String {
    format!("\n{}\n{}\n", goals_table(goals), measured(rows))
}

fn all_goals(results: &Results) -> String {
    let mut all = String::new();
    let mut open = vec![];
    for scenario in scenarios::ALL {
        match results.scenarios.get(scenario.name) {
            Some(run) => all += &goal_rows(&(scenario.goals)(&run.rows)),
            None => open.push(format!("- {}: *not measured yet*", scenario.what)),
        }
    }
    let table = if all.is_empty() { String::new() } else { format!("{HEAD}{all}\n") };
    let mut text = table + &open.join("\n");
    while text.ends_with('\n') {
        text.pop();
    }
    text
}

const HEAD: &str =
    "| goal | case | must | aim | measured (min – **median** – max) | |\n| --- | --- | --- | --- | --- | --- |\n";

fn goals_table(goals: &[Goal]) -> String {
    if goals.is_empty() { String::new() } else { format!("{HEAD}{}", goal_rows(goals)) }
}

fn goal_rows(goals: &[Goal]) -> String {
    let mut rows = String::new();
    let bound = |bound: Option<Bound>| bound.map_or(String::new(), |bound| bound.to_string());
    for goal in goals {
        let (must, aim, spread) = (bound(goal.must), bound(goal.aim), spread(goal.spread));
        let _ = writeln!(
            rows,
            "| {} | {} | {must} | {aim} | {spread} {} | {} |",
            goal.what,
            goal.case,
            goal.unit,
            goal.verdict()
        );
    }
    rows
}

/// Everything that was measured.
fn measured(rows: &Rows) -> String {
    let mut table =
        String::from("| case | load | system | figure | min – **median** – max |\n| --- | --- | --- | --- | --- |\n");
    for row in &rows.0 {
        if let Some(all) = Spread::of(&row.values) {
            let _ =
                writeln!(table, "| {} | {} | {} | {} | {} |", row.case, row.load, row.system, row.metric, spread(all));
        }
    }
    table
}

fn spread(spread: Spread) -> String {
    format!("{} – **{}** – {}", number(spread.min), number(spread.median), number(spread.max))
}

/// Three digits that count.
fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_was_measured_and_says_what_was_not() {
        let mut results = Results::default();
        let mut rows = Rows::default();
        for (system, value) in [("Weir", 200.0), ("Kafka, page cache", 100.0)] {
            rows.record("1 partition, 16 KiB", "weir bench", system, "mib_per_s", value);
        }
        let machine = crate::machine::Machine::this().unwrap();
        let run =
            super::super::Run { date: "2030-01-01 00:00".into(), commit: "abc".into(), machine, repetitions: 1, rows };
        results.replace("produce", run);
        let marks: String = scenarios::ALL.iter().map(|one| format!("{{{{table:{}}}}}\n", one.name)).collect();
        let page = page(&format!("{{{{goals}}}}\n{marks}"), &results, &[]).unwrap();
        assert!(page.contains("| ≥ 1 | ≥ 2 | 2.00 – **2.00** – 2.00 × | aim reached |"), "{page}");
        assert!(page.contains("2030-01-01 00:00 UTC, commit abc"), "{page}");
        assert!(page.contains("*Not measured yet.*") && page.contains("*not measured yet*"), "{page}");
    }

    #[test]
    fn the_text_of_the_page_has_a_mark_for_every_scenario() {
        let text = include_str!("../../text.md.in");
        page(text, &Results::default(), &[]).unwrap();
    }
}
