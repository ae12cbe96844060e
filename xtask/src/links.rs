//! Checks the links of the Markdown documents: every relative link leads to a file of the checkout, and every anchor
//! to a heading. Links to elsewhere are not followed: a test must not depend on the network.

use std::{
    collections::{HashMap, HashSet},
    fs,
    path::{Component, Path, PathBuf},
};

use anyhow::{Context as _, Result};

/// Folders that hold no documents of ours.
const SKIPPED: [&str; 5] = ["target", "node_modules", "weir-data", "corpus", "artifacts"];

/// One line per broken link; empty when all is well.
pub(crate) fn broken(root: &Path) -> Result<Vec<String>> {
    let mut files = vec![];
    collect(root, &mut files)?;
    files.sort();
    let mut documents = HashMap::new();
    for file in &files {
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
        documents.insert(file.clone(), Document::parse(&text));
    }
    let mut problems = vec![];
    for file in &files {
        let shown = file.strip_prefix(root).unwrap_or(file).display();
        for (line, target) in &documents[file].links {
            if let Some(problem) = problem(root, file, target, &documents) {
                problems.push(format!("{shown}:{line}: {target}: {problem}"));
            }
        }
    }
    Ok(problems)
}

fn collect(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("cannot list {}", folder.display()))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if !name.starts_with('.') && !SKIPPED.contains(&name.as_str()) {
                collect(&path, files)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "md") {
            files.push(path);
        }
    }
    Ok(())
}

/// What is wrong with a link, if anything is.
fn problem(root: &Path, from: &Path, target: &str, documents: &HashMap<PathBuf, Document>) -> Option<String> {
    let has_scheme = target.split_once(':').is_some_and(|(scheme, _)| {
        !scheme.is_empty() && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
    });
    if has_scheme || target.starts_with("//") {
        return None;
    }
    let (path, anchor) = target.split_once('#').map_or((target, None), |(path, anchor)| (path, Some(anchor)));
    let file = if path.is_empty() {
        from.to_owned()
    } else {
        let base = if path.starts_with('/') { root } else { from.parent().unwrap_or(root) };
        normal(&base.join(path.trim_start_matches('/').replace("%20", " ")))
    };
    if !file.starts_with(root) {
        return Some("leads out of the checkout".into());
    }
    if !file.exists() {
        return Some("there is no such file".into());
    }
    let anchor = anchor?;
    match documents.get(&file) {
        Some(document) if !document.anchors.contains(anchor) => Some("there is no such heading".into()),
        _ => None,
    }
}

/// Without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut normal = PathBuf::new();
    for component in path.components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                normal.pop();
            }
            other => normal.push(other),
        }
    }
    normal
}

/// What the check needs of a document.
#[derive(Default)]
struct Document {
    /// Line numbers and targets.
    links: Vec<(usize, String)>,
    anchors: HashSet<String>,
}

impl Document {
    fn parse(text: &str) -> Self {
        let mut document = Self::default();
        let mut repeats: HashMap<String, u32> = HashMap::new();
        let mut fence: Option<&str> = None;
        for (index, line) in text.lines().enumerate() {
            let trimmed = line.trim_start();
            let opening = ["```", "~~~"].into_iter().find(|mark| trimmed.starts_with(mark));
            if let Some(open) = fence {
                if opening == Some(open) {
                    fence = None;
                }
                continue;
            }
            if opening.is_some() {
                fence = opening;
                continue;
            }
            let plain = without_code(line);
            document.links.extend(targets(&plain).into_iter().map(|target| (index + 1, target)));
            for attribute in ["id=\"", "name=\""] {
                document.anchors.extend(
                    plain.split(attribute).skip(1).filter_map(|rest| rest.split_once('"')).map(|(id, _)| id.to_owned()),
                );
            }
            let hashes = trimmed.chars().take_while(|c| *c == '#').count();
            if (1..=6).contains(&hashes) && trimmed[hashes..].starts_with(' ') {
                let slug = slug(&trimmed[hashes..]);
                let seen = repeats.entry(slug.clone()).or_default();
                document.anchors.insert(if *seen == 0 { slug } else { format!("{slug}-{seen}") });
                *seen += 1;
            }
        }
        document
    }
}

/// Without what stands between backticks.
fn without_code(line: &str) -> String {
    let mut parts: Vec<&str> = line.split('`').collect();
    if parts.len().is_multiple_of(2) {
        // A lone backtick is no code.
        return line.to_owned();
    }
    for part in parts.iter_mut().skip(1).step_by(2) {
        *part = "";
    }
    parts.concat()
}

/// The targets of `[text](target)`, `![image](target)` and `[name]: target`.
fn targets(line: &str) -> Vec<String> {
    let mut found: Vec<String> = line
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')'))
        .map(|(target, _)| target.split_whitespace().next().unwrap_or("").trim_matches(['<', '>']).to_owned())
        .collect();
    if let Some((_, target)) = line.strip_prefix('[').and_then(|rest| rest.split_once("]: ")) {
        found.extend(target.split_whitespace().next().map(|target| target.trim_matches(['<', '>']).to_owned()));
    }
    found
}

/// The anchor that forges make of a heading: lower case, spaces to hyphens, punctuation away.
fn slug(heading: &str) -> String {
    let mut text = heading.trim().trim_end_matches('#').trim_end().to_owned();
    // Of a link in a heading only its text counts.
    while let Some(start) = text.find("](") {
        let Some(length) = text[start..].find(')') else { break };
        text.replace_range(start..=start + length, "");
    }
    text.chars()
        .filter_map(|c| match c {
            ' ' => Some('-'),
            '-' | '_' => Some(c),
            c if c.is_alphanumeric() => Some(c),
            _ => None,
        })
        .flat_map(char::to_lowercase)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::TemporaryFolder;

    #[test]
    fn broken_links_and_anchors_are_found_and_good_ones_are_not() {
        let folder = TemporaryFolder::new("links").unwrap();
        let root = &folder.0;
        fs::create_dir_all(root.join("docs")).unwrap();
        let readme = "# Weir\n[a](docs/a.md) [b](docs/a.md#the-second-part) [c](docs/a.md#twice-1) [d](#weir)\n\
            [web](https://example.org/x) ![picture](docs/none.png)\n[e](docs/a.md#no-part \"title\")\n\
            `[code](nowhere.md)`\n```\n[fenced](nowhere.md)\n```\n[up](../outside.md)\n\n[ref]: docs/missing.md\n";
        fs::write(root.join("README.md"), readme).unwrap();
        fs::write(root.join("docs/a.md"), "## The `second` part\n# Twice\n# Twice\n[back](../README.md)\n").unwrap();
        let found = broken(root).unwrap();
        assert_eq!(
            found,
            [
                "README.md:3: docs/none.png: there is no such file",
                "README.md:4: docs/a.md#no-part: there is no such heading",
                "README.md:9: ../outside.md: leads out of the checkout",
                "README.md:11: docs/missing.md: there is no such file",
            ]
        );
    }

    #[test]
    fn anchors_are_made_as_forges_make_them() {
        assert_eq!(slug(" What's in `weir dev`? "), "whats-in-weir-dev");
        assert_eq!(slug(" [Design](design.md) & rules ##"), "design--rules");
    }
}
