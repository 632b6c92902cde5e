//! The settings and files of an emperor, read once. After an upgrade it can go on with those that the program
//! before the upgrade has read.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

use rustix::fs::{Mode, OFlags, open};
use rustix::io::retry_on_intr;
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{WaitOptions, waitpid};

use crate::asker::{self, WhenLate};
use crate::command::read_pipe;
use crate::config::PlainSetting;
use crate::config::plan::EmperorPlan;
use crate::emperor::core::saved::SavedBasis;
use crate::emperor::instance::spawner::InstanceFiles;
use crate::error::{Context, Error, Result};
use crate::protocol::{EXIT_NOT_EXECUTABLE, WaitStatus};
use crate::sys::clone;
use crate::sys::environment::working_directory;
use crate::sys::exec::{Strings, exec_fd};
use crate::sys::fd;
use crate::sys::memfd::{self, Use};
use crate::sys::spawn::spawn;
use crate::sys::start::this_program;

/// The settings of the emperor's plan, and the files that every instance needs.
#[derive(Debug, Clone)]
pub struct Basis {
    /// The settings that its plan was made of.
    pub settings: Vec<PlainSetting>,
    /// The directory from which relative paths of the plan start; empty without relative paths.
    pub cwd: PathBuf,
    /// The files that instances are created with.
    pub files: InstanceFiles,
}

impl Basis {
    /// Reads the files that a plan needs.
    ///
    /// # Errors
    /// vassal-init cannot be found or read; there is no `/dev/null`; or the working directory is gone, and
    /// relative paths start there. A file whose filesystem does not answer is an error, or waited for.
    pub fn read(plan: &EmperorPlan, settings: Vec<PlainSetting>, when_late: WhenLate) -> Result<Self> {
        let (path, place) = match &plan.vassals.program {
            Some(path) => (path.value.clone(), format!("{}: {}: ", path.at, path.key)),
            // With links resolved, so that it is the vassal-init of the same release.
            None => (this_program()?.with_file_name("vassal-init"), String::new()),
        };
        let null = open(c"/dev/null", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let null = Rc::new(null.context("open", "/dev/null")?);
        let vassal_init = Rc::new(copy(&path, &place, when_late)?);
        let cwd = if plan.discovery.sources.iter().any(|source| source.value.path().is_relative()) {
            working_directory().context("find", "the working directory")?
        } else {
            PathBuf::new()
        };
        Ok(Self { settings, cwd, files: InstanceFiles { vassal_init, null } })
    }

    /// Takes over the basis of the program before the upgrade.
    ///
    /// # Errors
    /// EBADF: its descriptors are missing.
    pub fn inherit(saved: &SavedBasis) -> Result<Self> {
        // Both are taken before either can fail, so that neither stays open.
        let (vassal_init, null) = (fd::inherited(saved.vassal_init), fd::inherited(saved.null));
        Ok(Self {
            settings: saved.settings.clone(),
            cwd: saved.cwd.clone(),
            files: InstanceFiles {
                vassal_init: Rc::new(vassal_init.context("take over", "vassal-init")?),
                null: Rc::new(null.context("take over", "/dev/null")?),
            },
        })
    }

    /// Runs vassal-init with `--version`. There is no time limit here: the caller, which is a trial, is
    /// killed when its time is over.
    ///
    /// # Errors
    /// It cannot be executed, or is not vassal-init.
    pub fn try_out(&self) -> Result<()> {
        let (from, to) = pipe_with(PipeFlags::CLOEXEC).context("create", "a pipe")?;
        let (argv, envp) = (Strings::new(["vassal-init", "--version"]), Strings::new([""; 0]));
        let mut failed = None;
        let parent = rustix::process::getpid();
        let child = spawn(false, || {
            let _ = clone::die_with(parent);
            if rustix::stdio::dup2_stdout(&to).is_ok() {
                failed = Some(exec_fd(&*self.files.vassal_init, &argv, &envp));
            }
            EXIT_NOT_EXECUTABLE
        });
        let child = child.context("create", "a process")?;
        drop(to);
        if let Some(errno) = failed {
            return Err(Error::os("execute", "vassal-init", errno));
        }
        let said = read_pipe(&from).context("try", "vassal-init")?;
        let ended =
            retry_on_intr(|| waitpid(Some(child), WaitOptions::empty())).context("try", "vassal-init")?;
        match ended.and_then(|(_, status)| WaitStatus::of(status)) {
            Some(WaitStatus::Exited(0)) if said.starts_with(b"vassal-init ") => Ok(()),
            _ => Err(Error::new("try", "vassal-init", "it does not say its version")),
        }
    }

    /// The basis in the form for the next program.
    pub fn save(&self) -> SavedBasis {
        SavedBasis {
            settings: self.settings.clone(),
            cwd: self.cwd.clone(),
            vassal_init: self.files.vassal_init.as_raw_fd(),
            null: self.files.null.as_raw_fd(),
        }
    }
}

/// Copies a program into a sealed memory file. `place` says where the configuration names it.
fn copy(path: &Path, place: &str, when_late: WhenLate) -> Result<OwnedFd> {
    let image = asker::apart(when_late, |asker| asker.program(path))?;
    let image = image.context(&format!("{place}read"), path.display())?;
    memfd::sealed("vassal-init", &image, Use::Execute).context("copy", path.display())
}
