//! What the tests need from elsewhere, each installed once into the cache.
//!
//! A tool's *recipe* (its versions and the files that it is made from) is kept beside it: as long as it is the same,
//! nothing is installed again. Where a program is missing that an installation needs, the tests that need the tool
//! are left out by name; with `CI=true` that is a failure.

mod install;

use std::{collections::BTreeSet, time::Duration};

use anyhow::{Result, bail};

use crate::{
    cache::Context,
    process::{self, Log, Moment},
};

/// Something that an installation needs and does not bring itself.
struct Program {
    name: &'static str,
    version_flag: &'static str,
    get: &'static str,
}

const PYTHON: Program = Program { name: "python3", version_flag: "--version", get: "install Python 3 with venv" };
const NPM: Program = Program { name: "npm", version_flag: "--version", get: "install Node.js 20 or later" };
const GO: Program = Program { name: "go", version_flag: "version", get: "install Go 1.26 or later" };
const JAVA: Program = Program { name: "java", version_flag: "-version", get: "install Java 17 or later" };
const MAVEN: Program = Program { name: "mvn", version_flag: "--version", get: "install Maven 3" };

/// One installation.
pub(crate) struct Tool {
    pub(crate) name: &'static str,
    pub(crate) what: &'static str,
    needs: &'static [Program],
    /// Changes whenever what gets installed changes.
    recipe: fn(&Context) -> Result<String>,
    install: fn(&Context, &mut Log) -> Result<()>,
}

/// An installation takes no longer than this.
const DEADLINE: Duration = Duration::from_secs(20 * 60);

const TOOLS: &[Tool] = &[
    Tool {
        name: "python",
        what: "a Python environment with kafka-python, confluent-kafka and aiokafka",
        needs: &[PYTHON],
        recipe: install::python_recipe,
        install: install::python,
    },
    Tool {
        name: "node",
        what: "kafkajs and @platformatic/kafka",
        needs: &[NPM],
        recipe: install::node_recipe,
        install: install::node,
    },
    Tool {
        name: "go",
        what: "the franz-go test program",
        needs: &[GO],
        recipe: install::go_recipe,
        install: install::go,
    },
    Tool {
        name: "java",
        what: "Apache Kafka's console tools",
        needs: &[JAVA, MAVEN],
        recipe: install::java_recipe,
        install: install::java,
    },
    Tool {
        name: "kafka",
        what: "Apache Kafka, broker and tools: what the benchmarks compare with",
        needs: &[JAVA, MAVEN],
        recipe: install::kafka_recipe,
        install: install::kafka,
    },
    Tool {
        name: "valgrind",
        what: "valgrind, which counts instructions",
        needs: &[],
        recipe: install::valgrind_recipe,
        install: install::valgrind,
    },
    Tool { name: "kcat", what: "kcat", needs: &[], recipe: install::kcat_recipe, install: install::kcat },
    Tool {
        name: "cargo-deny",
        what: "cargo-deny, compiled",
        needs: &[],
        recipe: install::cargo_deny_recipe,
        install: install::cargo_deny,
    },
    Tool {
        name: "cargo-fuzz",
        what: "cargo-fuzz, compiled",
        needs: &[],
        recipe: install::cargo_fuzz_recipe,
        install: install::cargo_fuzz,
    },
    Tool {
        name: "minio",
        what: "the MinIO server, compiled (minutes, the first time)",
        needs: &[GO],
        recipe: install::minio_recipe,
        install: install::minio,
    },
    Tool {
        name: "versitygw",
        what: "the versitygw server, compiled (minutes, the first time)",
        needs: &[GO],
        recipe: install::versitygw_recipe,
        install: install::versitygw,
    },
    Tool {
        name: "azurite",
        what: "the Azurite emulator of Azure Blob Storage",
        needs: &[NPM],
        recipe: install::azurite_recipe,
        install: install::azurite,
    },
    Tool {
        name: "s3s-fs",
        what: "the s3s-fs server, compiled: a store that is to be refused",
        needs: &[],
        recipe: install::s3s_fs_recipe,
        install: install::s3s_fs,
    },
];

/// One line per tool.
pub(crate) fn help() -> String {
    TOOLS.iter().map(|tool| format!("  {:<12} {}\n", tool.name, tool.what)).collect()
}

/// How set-up went: names of tools.
#[derive(Default)]
pub(crate) struct Outcome {
    pub(crate) ready: BTreeSet<&'static str>,
    /// Left out for want of a prerequisite: not a failure.
    pub(crate) left_out: BTreeSet<&'static str>,
    pub(crate) failed: BTreeSet<&'static str>,
}

enum Failure {
    Missing(String),
    Failed(anyhow::Error),
}

/// `cargo xtask setup`.
pub(crate) fn command(context: &Context, names: &[&str]) -> Result<bool> {
    for name in names {
        if !TOOLS.iter().any(|tool| tool.name == *name) {
            bail!("no tool is called {name}; there are:\n{}", help());
        }
    }
    let wanted: Vec<&str> =
        TOOLS.iter().map(|tool| tool.name).filter(|n| names.is_empty() || names.contains(n)).collect();
    Ok(ensure(context, &wanted)?.failed.is_empty())
}

/// Installs what is not there yet.
pub(crate) fn ensure(context: &Context, wanted: &[&str]) -> Result<Outcome> {
    let _lock = context.lock()?;
    let mut outcome = Outcome::default();
    for tool in TOOLS.iter().filter(|tool| wanted.contains(&tool.name)) {
        let started = Moment::now();
        match ensure_tool(context, tool) {
            Ok(false) => {
                println!("  {}: there already", tool.name);
                outcome.ready.insert(tool.name);
            }
            Ok(true) => {
                println!("  {}: installed in {:.0} s", tool.name, started.elapsed().as_secs_f64());
                outcome.ready.insert(tool.name);
            }
            Err(Failure::Missing(what)) if !context.ci => {
                println!("  {}: left out, with the tests that need it: {what}", tool.name);
                outcome.left_out.insert(tool.name);
            }
            Err(Failure::Missing(what)) => {
                println!("  {}: FAILED: {what} (with CI=true everything must be there)", tool.name);
                outcome.failed.insert(tool.name);
            }
            Err(Failure::Failed(error)) => {
                println!("  {}: FAILED: {error:#}", tool.name);
                outcome.failed.insert(tool.name);
            }
        }
    }
    Ok(outcome)
}

/// Whether something had to be done.
fn ensure_tool(context: &Context, tool: &Tool) -> Result<bool, Failure> {
    for program in tool.needs {
        if !process::exists(program.name, program.version_flag) {
            return Err(Failure::Missing(format!("there is no {}: {}", program.name, program.get)));
        }
    }
    let recipe = (tool.recipe)(context).map_err(Failure::Failed)?;
    if context.is_stamped(tool.name, &recipe) {
        return Ok(false);
    }
    println!("  {}: installing {}", tool.name, tool.what);
    let path = context.log(&format!("setup-{}", tool.name)).map_err(Failure::Failed)?;
    let mut log = Log::create(path, context.verbose).map_err(Failure::Failed)?;
    match (tool.install)(context, &mut log) {
        Ok(()) => context.write_stamp(tool.name, &recipe).map(|()| true).map_err(Failure::Failed),
        Err(error) => match error.downcast::<install::Missing>() {
            Ok(missing) => Err(Failure::Missing(missing.to_string())),
            Err(error) => {
                print!("{}", crate::steps::tail(&log.text().unwrap_or_default()));
                Err(Failure::Failed(error.context(format!("see {}", log.path().display()))))
            }
        },
    }
}
