//! The commands of the README and of the tutorial of three hospitals do what they say, and links lead
//! somewhere.

mod common;

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn root() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    root.canonicalize().expect("the repository")
}

fn readme() -> String {
    common::text_of(&root().join("README.md"))
}

/// Commands of a page's `sh` blocks.
fn commands(page: &str) -> Vec<String> {
    let text = common::text_of(&root().join(page));
    let blocks = text
        .split("```sh\n")
        .skip(1)
        .map(|rest| rest.split("```").next().expect("a block"));
    blocks
        .flat_map(str::lines)
        .filter(|line| !line.trim().is_empty())
        .map(str::to_owned)
        .collect()
}

#[test]
fn continuous_integration_calls_the_readmes_test_command() {
    let script = common::text_of(&root().join(".ci/run"));
    assert!(readme().contains("\ncargo test --workspace "));
    assert!(script.contains("\ncargo test --workspace\n"));
}

#[test]
fn the_three_hospitals_find_each_other_and_train() {
    let folder = tempfile::tempdir().expect("a folder");
    let bin = folder.path().join("bin");
    std::fs::create_dir(&bin).expect("made");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_kith-under-test"), bin.join("kith"))
        .expect("a link");
    std::os::unix::fs::symlink(root().join("models"), folder.path().join("models"))
        .expect("a link");
    let path = format!(
        "{}:{}",
        bin.display(),
        std::env::var("PATH").unwrap_or_default()
    );
    // The tutorial's ports may be taken on this machine.
    let ports: Vec<(String, String)> = ["4701", "4702", "4703"]
        .iter()
        .map(|port| ((*port).to_owned(), common::free_port().to_string()))
        .collect();
    let shell = |line: &str| {
        let line = ports.iter().fold(line.to_owned(), |line, (from, to)| {
            line.replace(&format!("tcp/{from}"), &format!("tcp/{to}"))
        });
        let mut command = Command::new("bash");
        command
            .args(["-c", &format!("set -eo pipefail; {line}")])
            .current_dir(folder.path());
        command
            .env("PATH", &path)
            .env("NO_COLOR", "1")
            .stdin(Stdio::null());
        command
    };
    let lines = commands("docs/tutorials/federation.md");
    assert!(lines.len() >= 12, "{lines:?}");
    let mut running = Vec::new();
    for line in &lines {
        if line.starts_with("kith run") {
            let child = shell(&format!("exec {line}"))
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .expect("bash");
            running.push((line.clone(), child));
            continue;
        }
        for (line, child) in running.drain(..) {
            let output = child.wait_with_output().expect("ends");
            assert!(output.status.success(), "{line}: {}", common::told(&output));
            assert!(
                common::told(&output).contains("finished 1000 rounds"),
                "{line}: {}",
                common::told(&output)
            );
        }
        let output = shell(line).output().expect("bash");
        assert!(output.status.success(), "{line}: {}", common::told(&output));
    }
    assert!(
        running.is_empty(),
        "what was learned is looked at in the end"
    );
}

#[test]
fn pictures_of_text_keep_their_columns() {
    let docs = std::path::Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the workspace")
        .join("docs");
    for entry in std::fs::read_dir(docs).expect("documents") {
        let path = entry.expect("an entry").path();
        if path.extension().is_some_and(|extension| extension == "svg") {
            let text = std::fs::read_to_string(&path).expect("text");
            // Browsers no longer honour xml:space, and a text does not inherit the style of what it
            // stands in.
            assert!(
                text.contains("<style>text { white-space: pre }</style>"),
                "{}",
                path.display()
            );
        }
    }
}

/// All pages under a folder of the repository, itself included; build outputs and hidden folders are
/// left out.
fn pages(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let entry = entry.expect("an entry");
        let (path, name) = (entry.path(), entry.file_name());
        let name = name.to_string_lossy();
        let is_page = path.extension().is_some_and(|extension| extension == "md");
        match entry.file_type().expect("a kind") {
            kind if kind.is_dir() && !name.starts_with('.') && name != "target" => {
                found.extend(pages(&path));
            }
            kind if kind.is_file() && is_page => found.push(path),
            _ => {}
        }
    }
    found
}

/// What a page's links point to inside the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets.filter(|target| !target.contains("://"))
}

/// The anchors of a page's headings, as hosting services make them.
fn anchors(text: &str) -> Vec<String> {
    let headings = text.lines().filter(|line| line.starts_with('#'));
    headings
        .map(|line| {
            let title = line.trim_start_matches('#').trim().to_lowercase();
            let kept = title
                .chars()
                .filter(|letter| letter.is_alphanumeric() || matches!(letter, ' ' | '-' | '_'));
            kept.map(|letter| if letter == ' ' { '-' } else { letter })
                .collect()
        })
        .collect()
}

#[test]
fn links_lead_to_pages_and_sections_that_exist() {
    let mut broken = Vec::new();
    let mut followed = 0;
    for page in pages(&root()) {
        let text = common::text_of(&page);
        for target in links(&text) {
            followed += 1;
            let (file, anchor) = target.split_once('#').unwrap_or((target, ""));
            let path = match file {
                "" => page.clone(),
                _ => page.parent().expect("a folder").join(file),
            };
            let exists = path.exists()
                && (anchor.is_empty()
                    || anchors(&common::text_of(&path)).contains(&anchor.to_owned()));
            if !exists {
                broken.push(format!("{}: {target}", page.display()));
            }
        }
    }
    assert!(followed > 100, "only {followed} links were found");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// Drawings stand alone on any background: no script, nothing from elsewhere, words for those that do
/// not see them, and a page that shows each.
#[test]
fn drawings_stand_alone_and_are_shown() {
    let texts: Vec<String> = pages(&root())
        .iter()
        .map(|page| common::text_of(page))
        .collect();
    let folder = root().join("docs/drawings");
    for entry in std::fs::read_dir(folder).expect("drawings") {
        let path = entry.expect("an entry").path();
        let text = common::text_of(&path);
        let name = path.file_name().expect("a name").to_string_lossy();
        assert!(text.len() < 12_000, "{name} has {} bytes", text.len());
        for part in ["<title", "<desc", "role=\"img\""] {
            assert!(text.contains(part), "{name} lacks {part}");
        }
        for part in ["<script", "href=", "<image", "url("] {
            assert!(!text.contains(part), "{name} holds {part}");
        }
        let shown = format!("drawings/{name})");
        assert!(
            texts.iter().any(|text| text.contains(&shown)),
            "no page shows {name}"
        );
    }
}
