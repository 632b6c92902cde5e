//! `emperor --check`: an emperor's file, and those of its vassals as it would read them.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, retry_on_intr};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};

use super::core::owner::Owners;
use super::discovery::followers::Followers;
use super::discovery::patterns::{Allowance, Place, Wanted, places};
use super::discovery::scan::{Entry, Rules, list};
use super::instance::spawner::for_vassals;
use crate::cli::Findings;
use crate::config::diagnostic::Report;
use crate::config::plan::{EmperorPlan, Source};
use crate::config::{self, Input, ToCheck, World};
use crate::error::{Context, Described, Result};
use crate::files;
use crate::shell::Shell;
use crate::sys::environment;
use crate::sys::exec::Strings;
use crate::sys::start::this_program;
use crate::world::NoCommands;

/// How many vassals' files one process checks: their paths have room in its arguments (execve(2)).
const FILES_MAX: usize = 400;

/// Checks an emperor's file and the vassals that it names, or those of a directory.
pub fn check(mut of: ToCheck, findings: &mut Findings) {
    const WORLD: NoCommands<'_> = NoCommands::LeftOpen;
    let status = of.file.as_deref().and_then(|file| WORLD.status(Path::new(file)));
    if let Some(value) = of.file.take_if(|_| status.is_some_and(|status| status.is_directory)) {
        of.before.push(Input::Option { key: "emperor".to_owned(), value: Some(value) });
    }
    let (report, plan) = config::check_emperor(&of, &WORLD);
    findings.add(&report);
    if let Some(plan) = plan
        && let Err(error) = check_vassals(&plan, findings)
    {
        findings.add(&Report::about(OsStr::new("emperor"), error.to_string()));
        findings.errors += 1;
    }
}

/// Has vassal-init check the files of the vassals.
fn check_vassals(plan: &EmperorPlan, findings: &mut Findings) -> Result<()> {
    vassals(plan, findings).chunks(FILES_MAX).try_for_each(|files| check_some(plan, files, findings))
}

/// Has one process check so many.
fn check_some(plan: &EmperorPlan, files: &[PathBuf], findings: &mut Findings) -> Result<()> {
    let program = match &plan.vassals.program {
        Some(program) => program.value.clone(),
        None => this_program()?.with_file_name("vassal-init"),
    };
    let option = |(key, value): &(String, OsString)| {
        // The place in it may have a '=', which ends it.
        let mut word = OsString::from(format!("--{}=", key.replace('=', "-")));
        word.push(value);
        word
    };
    let options = |all: &[(String, OsString)]| all.iter().map(option).collect::<Vec<_>>();
    let (before, behind) = (options(&plan.vassals.before), options(&plan.vassals.behind));
    let mut words = vec![program.as_os_str(), OsStr::new("--check")];
    if findings.json.is_some() {
        words.push(OsStr::new("--json"));
    }
    if plan.tyrant.is_some() {
        // Who the owners of the files are is of no interest here: none is root.
        words.push(OsStr::new("--uid=65534"));
    }
    words.extend(before.iter().map(OsString::as_os_str));
    words.extend(files.iter().map(|file| file.as_os_str()));
    words.extend(behind.iter().map(OsString::as_os_str));
    let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("create", "a pipe")?;
    let environment = Some(Strings::environment(&for_vassals(&environment::variables())));
    let output = findings.json.is_some().then(|| to.as_fd());
    let command = OsStr::new("exec \"$0\" \"$@\"");
    let shell = Shell { command, arguments: &words, environment, output, ..Shell::default() };
    let child = shell.start(&|| ()).context("run", program.display())?;
    drop(to);
    let said = files::read_to_end(from).context("run", program.display())?;
    let ended = retry_on_intr(|| waitpid(Some(child.pid), WaitOptions::empty()));
    if let Some(json) = &mut findings.json {
        let said = String::from_utf8_lossy(&said);
        let elements = said.trim().strip_prefix('[').and_then(|said| said.strip_suffix(']'));
        elements.filter(|elements| !elements.is_empty()).into_iter().for_each(|all| json.raw("", all));
    }
    let is_good = matches!(ended, Ok(Some((_, status))) if status.exit_status() == Some(0));
    findings.errors += usize::from(!is_good);
    Ok(())
}

/// The files of the vassals, in order. Warns of what looks like one and is none.
fn vassals(plan: &EmperorPlan, findings: &mut Findings) -> Vec<PathBuf> {
    let rules = Rules {
        extra_suffixes: plan.discovery.extra_suffixes.clone(),
        nofollow: plan.discovery.nofollow,
        owners: Owners::of(plan.tyrant),
    };
    let (mut files, mut followers) = (Vec::new(), Followers::new(rules.owners));
    let mut refuse = |path: &Path, why: String| findings.add(&Report::about(path.as_os_str(), why));
    for source in &plan.discovery.sources {
        let all = match &source.value {
            Source::Directory(path) => vec![Place { path: path.clone(), wanted: Wanted::All }],
            Source::Pattern(pattern) => places(pattern, &mut |_, _| true).all,
        };
        for Place { path, wanted } in all {
            // It need not be there where the emperor's file is written.
            if rustix::fs::stat(&path).is_err_and(|errno| errno == Errno::NOENT) {
                continue;
            }
            let allowance = Allowance::of(&path, 0, rules.changes_max());
            match list(&path, &rules, &|name| wanted.includes(name), &mut followers, &allowance) {
                Err(error) => refuse(&path, error.to_string()),
                Ok((_, listing)) => {
                    for (name, entry) in listing.iter() {
                        let file = path.join(name);
                        match entry {
                            Entry::File(_) | Entry::Late => files.push(file),
                            Entry::Refused(why) => refuse(&file, format!("ignored: {why}")),
                            Entry::Unknown(errno) => refuse(&file, Described(*errno).to_string()),
                        }
                    }
                }
            }
        }
    }
    files
}
