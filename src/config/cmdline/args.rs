//! The command line of both programs: words → [`Invocation`].

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use lexopt::Arg;

use crate::config::diagnostic::{Misuse, Report, misuse};
use crate::config::input::Input;
use crate::config::keys::options::Program;
use crate::config::keys::row::{Group, Row, Takes};
use crate::config::keys::suggest;

/// What the command line asks for.
#[derive(Debug)]
pub enum Invocation {
    /// Print the overview of all options.
    Help,
    /// Print the help of one option.
    HelpOn(Row),
    /// Print the version.
    Version,
    /// Print the mistakes in these files; `true` for JSON.
    Check(Vec<OsString>, bool),
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
    let (mut show, mut json, mut check) = (false, false, None::<Vec<OsString>>);
    // The index of the last word that does not go with `--check`.
    let mut other = 0;
    loop {
        note_place(&mut parser, words.len(), at);
        if program.runs_commands()
            && let Some(mut rest) = parser.try_raw_args().filter(|_| !show && check.is_none())
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
            Arg::Short('h') => return Ok(Invocation::Help),
            Arg::Short('V') | Arg::Long("version") => return Ok(Invocation::Version),
            Arg::Long("help") => return help(program, &mut parser, at),
            Arg::Long("check") => check = Some(check.unwrap_or_default()),
            Arg::Long("json") if check.is_some() => json = true,
            Arg::Long("show-config") => {
                show = true;
                other = *at;
            }
            Arg::Long(name) => {
                let name = name.to_owned();
                let row = program.find_option(&name).ok_or_else(|| unknown(program, &name))?;
                let value = match row.takes {
                    Takes::Flag => parser.optional_value(),
                    Takes::Value(_) => Some(parser.value()?),
                };
                match row.group {
                    Group::Command => command.flags.push((name, value.unwrap_or_default())),
                    _ => inputs.push(Input::Option { key: name, value }),
                }
                other = *at;
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
            Arg::Value(word) => match &mut check {
                Some(files) => files.push(word),
                None if program.runs_commands() && !show && !is_file(&word) => {
                    command.words.push(word);
                    command.words.extend(parser.raw_args()?);
                    break;
                }
                None if !program.runs_commands()
                    && !word.as_bytes().iter().any(|byte| b"./".contains(byte)) =>
                {
                    let hint =
                        "commands are status, reload, stop, start, upgrade, roll; a file here is './FILE'";
                    return Err(Mistake("unknown command".to_owned(), Some(hint.to_owned())));
                }
                None => {
                    inputs.push(Input::File(word));
                    other = *at;
                }
            },
        }
    }
    match check {
        Some(files) if files.is_empty() => Err("'--check' needs a file".into()),
        Some(_) if show || !inputs.is_empty() => {
            *at = other;
            Err("'--check' takes files only".into())
        }
        Some(files) => Ok(Invocation::Check(files, json)),
        None if !command.words.is_empty() => Ok(Invocation::Command(inputs, command)),
        None if program.runs_commands() && inputs.is_empty() => {
            Err("a command or a configuration file is missing".into())
        }
        None if inputs.is_empty() => Err("a configuration file is missing".into()),
        None if show => Ok(Invocation::ShowConfig(inputs)),
        None => Ok(Invocation::Run(inputs)),
    }
}

/// Whether a word names a configuration file, and not a command.
fn is_file(word: &OsStr) -> bool {
    let name = word.as_bytes().split(|&byte| byte == b':').next().unwrap_or_default();
    name.ends_with(b".ini")
}

fn help(program: &Program, parser: &mut lexopt::Parser, at: &mut usize) -> Result<Invocation, Mistake> {
    let name = match parser.optional_value() {
        Some(name) => name,
        None => match parser.raw_args()?.next() {
            Some(name) => {
                *at += 1;
                name
            }
            None => return Ok(Invocation::Help),
        },
    };
    let name = name.to_string_lossy();
    let name = name.trim_start_matches('-');
    let row = program.find_option(name);
    row.map(Invocation::HelpOn).ok_or_else(|| unknown(program, name))
}

fn unknown(program: &Program, name: &str) -> Mistake {
    let mut names: Vec<_> = program.options().iter().map(|row| row.name).collect();
    names.extend(MODES);
    let close = suggest::closest(name.as_bytes(), &names);
    Mistake(format!("unknown option '--{name}'"), close.map(|close| format!("did you mean '--{close}'?")))
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
        for (line, message, caret, hint) in [
            ("-v --stop-tiemout 3", "unknown option '--stop-tiemout'", 15, "did you mean '--stop-timeout'?"),
            ("--emperor /x", "unknown option '--emperor'", 12, ""),
            ("--check", "'--check' needs a file", 20, ""),
            ("--check a --uid=1 b", "'--check' takes files only", 22, ""),
            ("--check=x", "'--check' takes no value", 12, ""),
            ("", "a command or a configuration file is missing", 12, ""),
            ("--", "the command is missing behind '--'", 15, ""),
            ("-svx a", "unknown option '-x'", 12, ""),
            ("a.ini --json", "unknown option '--json'", 18, ""),
            ("--gid 1 --uid", "'--uid' needs a value", 20, ""),
            ("--help uidd1", "unknown option '--uidd1'", 19, ""),
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
        assert!(matches!(words("--help"), Ok(Invocation::Help)));
        assert!(
            matches!(words("--help exec-as-user"), Ok(Invocation::HelpOn(row)) if row.name == "exec-PHASE")
        );
        assert!(matches!(words("--help --uid"), Ok(Invocation::HelpOn(row)) if row.name == "uid"));
        assert!(matches!(words("--check --json a"), Ok(Invocation::Check(files, true)) if files.len() == 1));
        assert!(matches!(words("--check a b"), Ok(Invocation::Check(files, false)) if files.len() == 2));
        assert!(matches!(words("--show-config a"), Ok(Invocation::ShowConfig(_))));
        assert!(matches!(words("-V"), Ok(Invocation::Version)));
    }
}
