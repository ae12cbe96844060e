//! How each tool is installed, and the recipe that tells whether it is still the right one.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};

use super::DEADLINE;
use crate::{
    cache::{Context, TemporaryFolder},
    process::{Log, exists},
};

const CARGO_DENY: &str = "0.20.2";
const CARGO_FUZZ: &str = "0.13.2";
/// A version that lets several writers win a race: that is what it is for.
const S3S_FS: &str = "0.14.1";
const VERSITYGW: &str = "v1.8.0";
const DEPENDENCY_PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// An installation found that it cannot be done on this machine.
#[derive(Debug)]
pub(super) struct Missing(String);

impl std::fmt::Display for Missing {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for Missing {}

fn clients(context: &Context, language: &str) -> PathBuf {
    context.root.join("tests/clients").join(language)
}

/// The contents of the files that an installation is made from.
fn recipe_of(dir: &Path, files: &[&str]) -> Result<String> {
    let mut recipe = String::from("1\n");
    for file in files {
        let path = dir.join(file);
        recipe += &fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    }
    Ok(recipe)
}

fn empty_folder(path: &Path) -> Result<()> {
    if path.exists() {
        fs::remove_dir_all(path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))
}

pub(super) fn python_recipe(context: &Context) -> Result<String> {
    recipe_of(&clients(context, "python"), &["requirements.txt"])
}

pub(super) fn python(context: &Context, log: &mut Log) -> Result<()> {
    let environment = context.cache.join("python");
    log.run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment), DEADLINE)?;
    let requirements = clients(context, "python").join("requirements.txt");
    let mut install = Command::new(environment.join("bin/python"));
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--requirement"]).arg(requirements);
    log.run(&mut install, DEADLINE)
}

const NODE_FILES: [&str; 2] = ["package.json", "package-lock.json"];

pub(super) fn node_recipe(context: &Context) -> Result<String> {
    recipe_of(&clients(context, "node"), &NODE_FILES)
}

pub(super) fn node(context: &Context, log: &mut Log) -> Result<()> {
    npm_install(context, log, "node", &NODE_FILES)
}

/// What a lock file says, into a folder of the cache that is named as that of the file.
fn npm_install(context: &Context, log: &mut Log, name: &str, files: &[&str]) -> Result<()> {
    let folder = context.cache.join(name);
    empty_folder(&folder)?;
    for file in files {
        fs::copy(clients(context, name).join(file), folder.join(file))?;
    }
    let mut install = Command::new("npm");
    install.args(["ci", "--no-audit", "--no-fund", "--ignore-scripts"]).current_dir(&folder);
    log.run(&mut install, DEADLINE)
}

const GO_FILES: [&str; 3] = ["go.mod", "go.sum", "main.go"];

pub(super) fn go_recipe(context: &Context) -> Result<String> {
    let dir = clients(context, "go");
    let mut files: Vec<String> = fs::read_dir(&dir)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect::<Result<_>>()?;
    files.sort();
    for file in GO_FILES {
        if !files.iter().any(|found| found == file) {
            bail!("{} has no {file}", dir.display());
        }
    }
    recipe_of(&dir, &files.iter().map(String::as_str).collect::<Vec<_>>())
}

pub(super) fn go(context: &Context, log: &mut Log) -> Result<()> {
    let mut build = Command::new("go");
    build.args(["build", "-trimpath", "-buildvcs=false", "-o"]).arg(context.bin("franz-go")).arg(".");
    build.current_dir(clients(context, "go")).env("CGO_ENABLED", "0");
    // Kept, so that a change of the program builds in a second.
    build.env("GOMODCACHE", context.cache.join("go/mod")).env("GOCACHE", context.cache.join("go/build"));
    build.env("GOFLAGS", "-modcacherw");
    log.run(&mut build, DEADLINE)
}

pub(super) fn java_recipe(context: &Context) -> Result<String> {
    recipe_of(&clients(context, "java"), &["pom.xml"])
}

pub(super) fn java(context: &Context, log: &mut Log) -> Result<()> {
    copy_jars(context, log, "java", &clients(context, "java"))
}

pub(super) fn kafka_recipe(context: &Context) -> Result<String> {
    recipe_of(&context.root.join("benches/kafka"), &["pom.xml"])
}

pub(super) fn kafka(context: &Context, log: &mut Log) -> Result<()> {
    copy_jars(context, log, "kafka", &context.root.join("benches/kafka"))
}

/// What a `pom.xml` depends on, as jars in `NAME/lib` of the cache.
fn copy_jars(context: &Context, log: &mut Log, name: &str, project: &Path) -> Result<()> {
    let folder = context.cache.join(name);
    empty_folder(&folder)?;
    // The plugin and its own dependencies are not needed again.
    let repository = TemporaryFolder::new("maven")?;
    let mut copy = Command::new("mvn");
    copy.args(["--batch-mode", "--quiet", "--no-transfer-progress", DEPENDENCY_PLUGIN, "-DincludeScope=runtime"]);
    copy.arg("--file").arg(project.join("pom.xml"));
    copy.arg(format!("-DoutputDirectory={}", folder.join("lib").display()));
    copy.arg(format!("-Dmaven.repo.local={}", repository.0.display()));
    log.run(&mut copy, DEADLINE)
}

pub(super) fn valgrind_recipe(_: &Context) -> Result<String> {
    Ok("2".into())
}

pub(super) fn valgrind(context: &Context, log: &mut Log) -> Result<()> {
    let Some(root) = from_debian(context, log, "valgrind", "--version", &["valgrind"])? else { return Ok(()) };
    let tools = root.join("libexec/valgrind");
    let script = format!(
        "#!/bin/sh\nVALGRIND_LIB='{}' exec '{}' \"$@\"\n",
        tools.display(),
        root.join("bin/valgrind").display()
    );
    write_script(&context.bin("valgrind"), &script)?;
    log.run(Command::new(context.bin("valgrind")).arg("--version"), DEADLINE)
}

pub(super) fn kcat_recipe(_: &Context) -> Result<String> {
    Ok("1".into())
}

pub(super) fn kcat(context: &Context, log: &mut Log) -> Result<()> {
    // librdkafka and what it links that a small system may not have.
    let packages = ["kcat", "librdkafka1", "libyajl2", "liblz4-1", "libzstd1", "libsnappy1v5"];
    let Some(root) = from_debian(context, log, "kcat", "-V", &packages)? else { return Ok(()) };
    let libraries = root.join("lib").join(format!("{}-linux-gnu", std::env::consts::ARCH));
    let script = format!(
        "#!/bin/sh\nLD_LIBRARY_PATH='{}' exec '{}' \"$@\"\n",
        libraries.display(),
        root.join("bin/kcat").display()
    );
    write_script(&context.bin("kcat"), &script)?;
    log.run(Command::new(context.bin("kcat")).arg("-V"), DEADLINE)
}

/// A program from the machine, else from Debian's packages. Installed when root; else these packages are unpacked, and where
/// their `usr` is then is returned: the caller writes the script that starts the program there.
fn from_debian(
    context: &Context,
    log: &mut Log,
    program: &str,
    version_flag: &str,
    packages: &[&str],
) -> Result<Option<PathBuf>> {
    if !exists(program, version_flag) {
        if !exists("apt-get", "--version") {
            let what = format!("there is no {program}: install it with the system's package manager");
            return Err(Missing(what).into());
        }
        if !is_root()? {
            return unpack(context, log, program, packages).map(Some);
        }
        // The list of packages may be old or missing: try first without fetching it.
        let install = || {
            let mut command = Command::new("apt-get");
            command.args(["install", "--yes", "--no-install-recommends", program]);
            command.env("DEBIAN_FRONTEND", "noninteractive");
            command
        };
        if log.run(&mut install(), DEADLINE).is_err() {
            log.run(Command::new("apt-get").arg("update"), DEADLINE)?;
            log.run(&mut install(), DEADLINE)?;
        }
    }
    write_script(&context.bin(program), &format!("#!/bin/sh\nexec {program} \"$@\"\n"))?;
    Ok(None)
}

fn unpack(context: &Context, log: &mut Log, program: &str, packages: &[&str]) -> Result<PathBuf> {
    let folder = context.cache.join(program);
    empty_folder(&folder)?;
    let mut download = Command::new("apt-get");
    download.arg("download").args(packages).current_dir(&folder);
    if log.run(&mut download, DEADLINE).is_err() {
        let what = format!("apt-get download {program} failed: run `apt-get update`, or install {program}, as root");
        return Err(Missing(what).into());
    }
    for entry in fs::read_dir(&folder)? {
        let package = entry?.path();
        if package.extension().is_some_and(|extension| extension == "deb") {
            log.run(Command::new("dpkg-deb").arg("--extract").arg(&package).arg(folder.join("root")), DEADLINE)?;
            fs::remove_file(&package)?;
        }
    }
    Ok(folder.join("root/usr"))
}

fn write_script(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(fs::set_permissions(path, fs::Permissions::from_mode(0o755))?)
}

fn is_root() -> Result<bool> {
    let output = Command::new("id").arg("-u").output().context("cannot run id")?;
    Ok(output.stdout.trim_ascii() == b"0")
}

pub(super) fn cargo_deny_recipe(_: &Context) -> Result<String> {
    Ok(CARGO_DENY.into())
}

pub(super) fn cargo_deny(context: &Context, log: &mut Log) -> Result<()> {
    cargo_install(context, log, "cargo-deny", CARGO_DENY, &[])
}

pub(super) fn cargo_fuzz_recipe(_: &Context) -> Result<String> {
    Ok(CARGO_FUZZ.into())
}

pub(super) fn cargo_fuzz(context: &Context, log: &mut Log) -> Result<()> {
    if !exists_nightly() {
        let how = "fuzzing needs a nightly compiler: rustup toolchain install nightly";
        return Err(Missing(how.into()).into());
    }
    cargo_install(context, log, "cargo-fuzz", CARGO_FUZZ, &[])
}

fn exists_nightly() -> bool {
    Command::new("cargo").args(["+nightly", "--version"]).output().is_ok_and(|output| output.status.success())
}

/// Without optimisation: it is compiled once and runs for seconds.
fn cargo_install(context: &Context, log: &mut Log, name: &str, version: &str, more: &[&str]) -> Result<()> {
    let mut install = Command::new("cargo");
    install.args(["install", "--locked", "--force", "--debug", "--config", "profile.dev.debug=false"]);
    install.args([name, "--version", version]).args(more).arg("--root").arg(&context.cache);
    install.current_dir(&context.root);
    log.run(&mut install, DEADLINE)
}

pub(super) fn minio_recipe(_: &Context) -> Result<String> {
    // Only `latest` can be had as a Go module.
    Ok("latest 1".into())
}

pub(super) fn minio(context: &Context, log: &mut Log) -> Result<()> {
    let binary = context.bin("minio");
    if binary.exists() && log.run(Command::new(&binary).arg("--version"), DEADLINE).is_ok() {
        return Ok(());
    }
    go_install(context, log, "minio", "github.com/minio/minio@latest")
}

pub(super) fn versitygw_recipe(_: &Context) -> Result<String> {
    Ok(VERSITYGW.into())
}

pub(super) fn versitygw(context: &Context, log: &mut Log) -> Result<()> {
    go_install(context, log, "versitygw", &format!("github.com/versity/versitygw/cmd/versitygw@{VERSITYGW}"))
}

fn go_install(context: &Context, log: &mut Log, name: &str, module: &str) -> Result<()> {
    // Gigabytes of sources and objects that nothing else needs.
    let folder = TemporaryFolder::new(&format!("go-{name}"))?;
    let mut install = Command::new("go");
    install.args(["install", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", module]);
    install.env("GOBIN", context.cache.join("bin")).env("GOFLAGS", "-modcacherw").env("CGO_ENABLED", "0");
    install.env("GOMODCACHE", folder.0.join("mod")).env("GOCACHE", folder.0.join("build"));
    install.current_dir(&folder.0);
    log.run(&mut install, DEADLINE)
}

pub(super) fn azurite_recipe(context: &Context) -> Result<String> {
    recipe_of(&clients(context, "azurite"), &NODE_FILES)
}

pub(super) fn azurite(context: &Context, log: &mut Log) -> Result<()> {
    npm_install(context, log, "azurite", &NODE_FILES)
}

pub(super) fn s3s_fs_recipe(_: &Context) -> Result<String> {
    Ok(S3S_FS.into())
}

pub(super) fn s3s_fs(context: &Context, log: &mut Log) -> Result<()> {
    cargo_install(context, log, "s3s-fs", S3S_FS, &["--features", "binary"])
}
