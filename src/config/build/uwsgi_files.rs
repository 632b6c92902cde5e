//! Files that uWSGI opens as root before it becomes its user. Here it is that user from its first
//! instruction, so PID 1 opens or makes them.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

use crate::config::diagnostic::Diagnostics;
use crate::config::plan::{Output, VassalPlan};
use crate::config::setting::{Setting, State};
use crate::names;

/// The options with such a file.
const FILES: &str = "daemonize logto pidfile spooler";
/// The options by which uWSGI starts itself anew, which it cannot do here.
const RELOADS: &str = "fs-reload py-auto-reload py-autoreload touch-reload";

/// Takes `logto` out of the options, and has PID 1 write that file, unless the file of the vassal says where
/// the output goes, or uWSGI is to do more with the file. All other files are noted.
pub(super) fn take_over(options: &mut Vec<&Setting>, plan: &mut VassalPlan, found: &mut Diagnostics) {
    let is_file = |setting: &&Setting| {
        let text = setting.text();
        // Others are addresses that it sends lines to.
        let is_path = !text.is_empty() && (text.starts_with(b"/") || !text.contains(&b':'));
        setting.state == State::Open && names::contains(FILES, &setting.key) && is_path
    };
    let path = |setting: &Setting| PathBuf::from(OsStr::from_bytes(setting.text()));
    let has_more = |setting: &&Setting| {
        ["log-", "logfile-", "touch-log"].iter().any(|more| setting.key.starts_with(more.as_bytes()))
    };
    let is_said = plan.output.out.as_ref().is_some_and(|out| out.at.line > 0);
    // Something must be left that makes uWSGI the app.
    let is_left = options.iter().any(|setting| !names::contains("logto strict", &setting.key));
    if !is_said
        && is_left
        && !options.iter().any(has_more)
        && let Some(setting) = options.iter().rfind(|setting| is_file(setting) && setting.key == b"logto")
    {
        plan.output.out = Some(setting.locate(Output::File(path(setting))));
        options.retain(|setting| setting.key != b"logto");
    }
    for setting in options {
        let key = setting.key.escape_ascii();
        if names::contains(RELOADS, &setting.key) {
            let message = format!("'{key}' ends uWSGI here, and a new instance takes its place");
            found.warning(&setting.at, message).hint("touch the vassal's file instead");
        } else if is_file(setting) && setting.text().starts_with(b"/") {
            plan.output.of_uwsgi.push(setting.locate(path(setting)));
        } else if is_file(setting) && setting.key != b"spooler" && plan.chdir.is_some() {
            let message = format!("'{key}' is in 'chdir' here, and in the directory of this file in uWSGI");
            found.warning(&setting.value_at, message).hint("write the path from the root");
        }
    }
}
