//! The command line of both programs: words → [`Invocation`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg;

use super::help;
use crate::config::diagnostic::{Misuse, Report, misuse};
use crate::config::input::{Input, ToCheck, placed};
use crate::config::keys::options::Program;
use crate::config::keys::row::{Group, Takes};
use crate::config::keys::{actions, suggest};
use crate::names;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Print this help.
    Help(String),
    /// Print the version.
    Version,
    /// Print the mistakes in each of these; `true` for JSON.
    Check(Vec<ToCheck>, bool),
    /// Print the settings of these inputs.
    ShowConfig(Vec<Input>),
    /// Run the program.
    Run(Vec<Input>),
    /// Run the program with this command as the app.
    Command(Vec<Input>, Command),
    /// Print the licence.
    Licence,
}

/// A command, and the options of the command line that only count for one.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Command {
    /// Name and value of each; flags have a name of one letter.
    pub flags: Vec<(String, OsString)>,
    /// The program and its arguments.
    pub words: Vec<OsString>,
}

/// The options that choose what to do, and are not keys of files.
pub const MODES: &[&str] = &["check", "help", "json", "show-config", "version"];

/// Reads the words behind the program's name. Options and files keep their order: the later one has the last
/// word.
///
/// A program that runs commands takes its options only before the command. The command begins behind `--`, or
/// with the first word that is neither an option nor a file, by its name: `NAME.ini` or `NAME.ini:SECTION`.
///
/// # Errors
/// The command line has a mistake.
pub fn parse(program: &Program, words: &[OsString]) -> Result<Invocation, Report> {
    let mut at = 0;
    let read = read(program, words, &mut at);
    read.map_err(|Mistake(message, hint)| misuse(program.name, words, Misuse { word: at, message, hint }))
}

/// A mistake in a word, and how to put it right.
#[derive(Debug)]
pub struct Mistake(pub String, pub Option<String>);

impl From<lexopt::Error> for Mistake {
    fn from(error: lexopt::Error) -> Self {
        // The messages of lexopt use `Debug`, which the programs are built without.
        Self::from(match error {
            lexopt::Error::MissingValue { option: Some(option) } => format!("'{option}' needs a value"),
            lexopt::Error::UnexpectedValue { option, .. } => format!("'{option}' takes no value"),
            lexopt::Error::UnexpectedOption(option) => format!("invalid option '{option}'"),
            // The other errors come from functions that are not used.
            _ => "it cannot be read".to_owned(),
        })
    }
}

impl From<String> for Mistake {
    fn from(message: String) -> Self {
        Self(message, None)
    }
}

impl From<&str> for Mistake {
    fn from(message: &str) -> Self {
        message.to_owned().into()
    }
}

/// Notes the index of the next word. All letters and the value in one word have that index.
pub fn note_place(parser: &mut lexopt::Parser, count: usize, at: &mut usize) {
    if let Some(rest) = parser.try_raw_args() {
        *at = count.saturating_sub(rest.as_slice().len());
    }
}

fn read(program: &Program, words: &[OsString], at: &mut usize) -> Result<Invocation, Mistake> {
    let mut parser = lexopt::Parser::from_args(words);
    let mut inputs = Vec::new();
    let mut command = Command::default();
    let (mut show, mut json, mut check) = (None, None, false);
    loop {
        note_place(&mut parser, words.len(), at);
        if program.runs_commands()
            && let Some(mut rest) = parser.try_raw_args().filter(|_| show.is_none() && !check)
            && rest.next_if(|word| word == "--").is_some()
        {
            command.words = rest.collect();
            if command.words.is_empty() {
                *at = words.len();
                return Err("the command is missing behind '--'".into());
            }
            break;
        }
        let Some(word) = parser.next()? else { break };
        match word {
            Arg::Short('h') => return Ok(Invocation::Help(help::overview(program))),
            Arg::Short('V') | Arg::Long("version") => return Ok(Invocation::Version),
            Arg::Long("help") => {
                let mut names: Vec<_> = parser.optional_value().into_iter().collect();
                names.extend(parser.raw_args()?);
                return on(program, names, at);
            }
            Arg::Long("check") => check = true,
            Arg::Long("json") => json = Some(*at),
            Arg::Long("show-config") => show = Some(*at),
            Arg::Long(name) => {
                let name = name.to_owned();
                let row = program
                    .find_option(placed(&name).0)
                    .ok_or_else(|| unknown(program, Vec::new(), &name))?;
                let value = match row.takes {
                    Takes::Flag => parser.optional_value(),
                    Takes::Value(_) => Some(parser.value()?),
                };
                match row.group {
                    Group::Command => command.flags.push((name, value.unwrap_or_default())),
                    _ => inputs.push(Input::Option { key: name, value }),
                }
            }
            Arg::Short('l') if program.runs_commands() => return Ok(Invocation::Licence),
            Arg::Short(letter @ ('e' | 'g' | 'p' | 's' | 'v' | 'w')) if program.runs_commands() => {
                let value = match letter {
                    'e' | 'p' => parser.value()?,
                    _ => OsString::new(),
                };
                command.flags.push((letter.to_string(), value));
            }
            Arg::Short(letter) => return Err(format!("unknown option '-{letter}'").into()),
            Arg::Value(word) if check => inputs.push(Input::File(word)),
            Arg::Value(word) if program.runs_commands() && show.is_none() && !is_file(&word) => {
                command.words.push(word);
                command.words.extend(parser.raw_args()?);
                break;
            }
            Arg::Value(word)
                if !program.runs_commands() && !word.as_bytes().iter().any(|byte| b"./".contains(byte)) =>
            {
                let word = word.to_string_lossy().into_owned();
                return match &*word {
                    "help" => on(program, parser.raw_args()?.collect(), at),
                    // Only with --help is it not carried out.
                    _ if names::contains(program.commands, word.as_bytes()) => {
                        on(program, vec![word.into()], at)
                    }
                    _ => Err(no_command(program, &word)),
                };
            }
            Arg::Value(word) => inputs.push(Input::File(word)),
        }
    }
    if let Some(place) = show.filter(|_| check) {
        *at = place;
        return Err("'--check' does not go with '--show-config'".into());
    }
    if let Some(place) = json.filter(|_| !check) {
        *at = place;
        return Err("'--json' goes with '--check'".into());
    }
    match inputs.is_empty() {
        _ if check => to_check(program, inputs).map(|files| Invocation::Check(files, json.is_some())),
        _ if !command.words.is_empty() => Ok(Invocation::Command(inputs, command)),
        true if program.runs_commands() => Err("a command or a configuration file is missing".into()),
        true => Err("a configuration file is missing".into()),
        false if show.is_some() => Ok(Invocation::ShowConfig(inputs)),
        false => Ok(Invocation::Run(inputs)),
    }
}

/// What `--check` is to look at. Options in front of the first file come before each, as templates of an
/// emperor's do, the others behind each. An emperor can be given by options alone.
fn to_check(program: &Program, inputs: Vec<Input>) -> Result<Vec<ToCheck>, Mistake> {
    let is_file = |input: &Input| matches!(input, Input::File(_));
    let mut before = inputs;
    let rest = before.split_off(before.iter().position(is_file).unwrap_or(before.len()));
    let (files, behind): (Vec<_>, Vec<_>) = rest.into_iter().partition(is_file);
    if files.is_empty() && (before.is_empty() || program.runs_commands()) {
        return Err("'--check' needs a file".into());
    }
    let files = files.into_iter().map(|input| match input {
        Input::File(file) => Some(file),
        _ => None,
    });
    let mut files: Vec<_> = files.collect();
    if files.is_empty() {
        files.push(None);
    }
    let of = |file| ToCheck { before: before.clone(), file, behind: behind.clone() };
    Ok(files.into_iter().map(of).collect())
}

/// Whether a word names a configuration file, and not a command.
fn is_file(word: &OsStr) -> bool {
    let name = word.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
    name.ends_with(b".ini")
}

/// The help on names; without any, the overview.
fn on(program: &Program, words: Vec<OsString>, at: &mut usize) -> Result<Invocation, Mistake> {
    let mut text = String::new();
    for (name, number) in words.into_iter().zip(*at + 1..) {
        let name = name.to_string_lossy();
        let name = name.trim_start_matches('-');
        text += &help::about(program, name).ok_or_else(|| {
            *at = number;
            let Mistake(what, close) = unknown(program, actions::names(), name);
            // It may be the other program's.
            Mistake(what, close.or_else(|| Some("try the --help of emperor and of vassal-init".to_owned())))
        })?;
    }
    Ok(Invocation::Help(if text.is_empty() { help::overview(program) } else { text }))
}

/// What other programs call the commands of this one.
const FOREIGN: &str = "\
    check --check\nexec enter\nkill stop\nlist status\nls status\nrestart reload\ntop ps\nup start\n\
    version --version\n";

fn no_command(program: &Program, word: &str) -> Mistake {
    let foreign = FOREIGN.lines().map(names::split).find(|(name, _)| *name == word);
    let commands: Vec<_> = program.commands.split(' ').chain(["help"]).collect();
    let close = foreign.map(|(_, meant)| meant).or_else(|| suggest::probable(word, &commands));
    let hint = match close {
        Some(close) => format!("did you mean '{close}'?"),
        None => format!("commands are {}; a file here is './FILE'", commands.join(", ")),
    };
    Mistake("unknown command".to_owned(), Some(hint))
}

/// The mistake of a name that none of these is, and no option.
fn unknown(program: &Program, mut names: Vec<&str>, name: &str) -> Mistake {
    names.extend(program.options().iter().map(|row| row.name));
    names.extend(MODES.iter().copied().chain(program.commands.split(' ')));
    unknown_option(name, &names)
}

/// The mistake of an option that is none of these.
pub fn unknown_option(name: &str, names: &[&str]) -> Mistake {
    let close = suggest::probable(name, names).map(|close| format!("did you mean '--{close}'?"));
    Mistake(format!("unknown option '--{name}'"), close)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::keys::vassal::VASSAL_INIT;

    fn words(line: &str) -> Result<Invocation, Report> {
        parse(&VASSAL_INIT, &line.split_whitespace().map(OsString::from).collect::<Vec<_>>())
    }

    #[test]
    fn options_and_files_keep_their_order() {
        let Ok(Invocation::Run(inputs)) = words("--uid user001 a.ini:b --no-initgroups --exec-as-user=x")
        else {
            panic!("not run")
        };
        let option =
            |key: &str, value: Option<&str>| Input::Option { key: key.into(), value: value.map(Into::into) };
        let file = Input::File("a.ini:b".into());
        let expected = [
            option("uid", Some("user001")),
            file,
            option("no-initgroups", None),
            option("exec-as-user", Some("x")),
        ];
        assert_eq!(inputs, expected);
    }

    #[test]
    fn mistakes_are_explained() {
        let both = "try the --help of emperor and of vassal-init";
        for (line, message, caret, hint) in [
            ("-v --stop-tiemout 3", "unknown option '--stop-tiemout'", 15, "did you mean '--stop-timeout'?"),
            ("--emperor /x", "unknown option '--emperor'", 12, ""),
            ("--check", "'--check' needs a file", 20, ""),
            ("--uid=1 --check", "'--check' needs a file", 28, ""),
            ("--check a --show-config", "'--check' does not go with '--show-config'", 22, ""),
            ("--check=x", "'--check' takes no value", 12, ""),
            ("", "a command or a configuration file is missing", 12, ""),
            ("--", "the command is missing behind '--'", 15, ""),
            ("-svx a", "unknown option '-x'", 12, ""),
            ("a.ini --json", "'--json' goes with '--check'", 18, ""),
            ("--gid 1 --uid", "'--uid' needs a value", 20, ""),
            ("--help uidd1", "unknown option '--uidd1'", 19, both),
            ("--help uid nothing-like-it", "unknown option '--nothing-like-it'", 23, both),
            ("--help mounnt", "unknown option '--mounnt'", 19, "did you mean '--mount'?"),
            ("--chek", "unknown option '--chek'", 12, "did you mean '--check'?"),
        ] {
            let hint = if hint.is_empty() { "try 'vassal-init --help'" } else { hint };
            let shown = format!("vassal-init {line}");
            let caret = " ".repeat(caret);
            assert_eq!(
                words(line).unwrap_err().to_string(),
                format!("command line: {message}\n    {}\n    {caret}^\n  hint: {hint}\n", shown.trim_end())
            );
        }
    }

    #[test]
    fn a_command_ends_the_options() {
        let command = |line: &str| match words(line) {
            Ok(Invocation::Command(inputs, command)) => {
                (inputs.len() * 10 + command.flags.len(), command.words.join(OsStr::new(" ")))
            }
            other => panic!("{line}: {other:?}"),
        };
        assert_eq!(command("-- a -s --uid"), (0, "a -s --uid".into()));
        assert_eq!(command("-sgvv -e 3 --grace 2 a --help"), (6, "a --help".into()));
        assert_eq!(command("--user 1:2 --chdir / -- a.ini"), (11, "a.ini".into()));
        assert_eq!(command("--uid 1 x.ini:s --gid 2 -- -- a"), (30, "-- a".into()));
        assert_eq!(command("x.ini a"), (10, "a".into()));
    }

    #[test]
    fn other_modes() {
        let help = |line: &str| match words(line) {
            Ok(Invocation::Help(text)) => text.lines().map(str::to_owned).collect::<Vec<_>>(),
            other => panic!("{line}: {other:?}"),
        };
        assert!(help("--help").len() > 100 && help("--help") == help("-h"));
        assert_eq!(help("--help exec-as-user")[0], "--exec-PHASE COMMAND");
        assert_eq!(help("--help --uid"), help("--help=uid"));
        let both = [help("--help uid"), help("--help gid")].concat();
        assert_eq!(help("--help uid gid"), both);
        assert_eq!(help("--help mount")[0], "mount:FS SOURCE DIR [FLAGS] [DATA]");
        for (name, part) in [
            ("if-not-reload", "'endif ='"),
            ("for", "'endfor ='"),
            ("endfor", "for-glob PATTERN"),
            ("psgi", "'uwsgi --help'"),
            ("check", "vassal-init [OPTIONS] --check"),
        ] {
            let text = help(&format!("--help {name}")).join(" ");
            assert!(text.contains(part), "{name}: {text}");
        }
        for line in ["--check --json a", "--json --check a", "a.ini --check --json"] {
            assert!(matches!(words(line), Ok(Invocation::Check(files, true)) if files.len() == 1), "{line}");
        }
        assert!(matches!(words("--check a b"), Ok(Invocation::Check(files, false)) if files.len() == 2));
        let Ok(Invocation::Check(files, _)) = words("--include t --check a --uid=1 b --set=x=y") else {
            panic!("not checked")
        };
        let option = |key: &str, value: &str| Input::Option { key: key.into(), value: Some(value.into()) };
        let expected = ["a", "b"].map(|file| ToCheck {
            before: vec![option("include", "t")],
            file: Some(file.into()),
            behind: vec![option("uid", "1"), option("set", "x=y")],
        });
        assert_eq!(files, expected);
        assert!(matches!(words("--show-config a"), Ok(Invocation::ShowConfig(_))));
        assert!(matches!(words("-V"), Ok(Invocation::Version)));
    }
}
