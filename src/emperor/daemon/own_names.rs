//! The emperor's own names: of its sockets, and of its pid file. Their filesystems may hang, so readers look
//! at the names and make them anew, and other deputies remove them at the end.

use std::path::Path;
use std::time::{Duration, Instant};

use super::emperor::Emperor;
use crate::emperor::core::file_version::FileId;
use crate::emperor::deputy::Deputy;
use crate::emperor::instance::readers::{News, Purpose};
use crate::emperor::instance::reading::Job;
use crate::emperor::instance::socket_file::{SocketFile, is_known};
use crate::emperor::pid_file::PidFile;
use crate::error::Error;
use crate::log;
use crate::running_time;

/// How long an emperor that ends waits for the removal of its own names.
const FINISHING: Duration = Duration::from_secs(2);

/// Has readers look at the emperor's own names, where the kernel does not know whether they are there.
pub fn look(emperor: &mut Emperor, now: Instant) {
    let mut paths = emperor.server.to_look_at();
    if let Some(file) = emperor.pid_file.as_ref().filter(|file| !is_known(file.path(), None)) {
        paths.push(file.path().to_owned());
    }
    for path in paths {
        emperor.supervisor.have_done(&path, Job::Look, now);
    }
}

/// Takes in what readers have found or made, and has those names made anew that are gone.
pub fn renew(emperor: &mut Emperor, now: Instant) {
    let Emperor { server, pid_file, supervisor, .. } = emperor;
    for (path, news) in supervisor.take_own_news() {
        match news {
            News::Read(Purpose::Own(Job::Look), Ok(found)) => {
                let there = found.version.id();
                let is_pid_file = pid_file.as_ref().is_some_and(|file| file.path() == &**path);
                // A pid file of another emperor's stays.
                let writes = (is_pid_file && there == FileId::default()).then_some(Job::WritePid);
                if let Some(job) = writes.or_else(|| server.lost(&path, there)) {
                    supervisor.have_done(&path, job, now);
                }
            }
            News::Read(Purpose::Own(Job::WritePid), written) => {
                if let Some(file) = pid_file {
                    file.renewed(written.map(|_| ()));
                }
            }
            News::Read(Purpose::Own(Job::Look), Err(_)) => {}
            News::Read(_, made) => server.renew(&path, made),
            News::Late(_, error) => log!("{error}; it stays as it is"),
            News::Slow | News::Answers => {}
        }
    }
}

/// Removes the emperor's own files at its end. Deputies do that, each one file, so that one that hangs keeps
/// neither the others nor the emperor. The emperor itself must not drop them.
pub fn remove(emperor: &mut Emperor) {
    let mut deputies = Vec::new();
    for index in (0..=emperor.server.count()).rev() {
        let life = |_link| match emperor.server.file(index) {
            Some(file) => drop(file.take()),
            None => drop(emperor.pid_file.take()),
        };
        match Deputy::start(c"emperor-remover", life) {
            Ok(deputy) => deputies.push(deputy),
            Err(error) => match emperor.server.file(index) {
                Some(file) => tell_left(&error, file.as_ref().map(SocketFile::path)),
                None => tell_left(&error, emperor.pid_file.as_ref().map(PidFile::path)),
            },
        }
    }
    let until = running_time::now() + FINISHING;
    deputies.into_iter().for_each(|deputy| deputy.finish(until));
}

fn tell_left(error: &Error, path: Option<&Path>) {
    if let Some(path) = path {
        log!("{error}: {} is left", path.display());
    }
}
