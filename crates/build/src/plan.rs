//! What will be built: the stages that are needed, on what, in which order. Pure.

use std::fmt::Write as _;

use wharf_store::Platform;

use crate::args::BuildArgs;
use crate::dockerfile::expand::Expander;
use crate::dockerfile::instruction::{Instruction, Label};
use crate::dockerfile::{Dockerfile, Stage, Step};
use crate::{BuildError, BuildRequest};

/// Which stages are built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Selection {
    /// Every stage up to the target, as the classic builder does.
    UpToTarget,
    /// Only what the target needs, as BuildKit does.
    Needed,
}

/// A build, decided.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `ARG`s before the first stage, as written.
    pub globals: Vec<String>,
    /// In order; the last one is the target.
    pub stages: Vec<PlannedStage>,
    /// Number of numbered steps.
    pub total: usize,
    /// The platform that is built for.
    pub platform: Platform,
    /// The escape character of the Dockerfile.
    pub escape: char,
    pub(crate) args: BuildArgs,
}

/// One stage that is built.
#[derive(Clone, Debug)]
pub struct PlannedStage {
    /// Position in the Dockerfile, which `COPY --from` may use.
    pub index: usize,
    /// Its name.
    pub name: Option<String>,
    /// Its `FROM` as written.
    pub original: String,
    /// What it is built on.
    pub base: Base,
    /// Its own platform where `--platform` gives one.
    pub platform: Option<String>,
    /// What is done.
    pub steps: Vec<Step>,
}

/// What a stage is built on, or what files come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// Nothing.
    Scratch,
    /// An earlier stage, by its position in the Dockerfile.
    Stage(usize),
    /// An image.
    Image(String),
}

/// Decides what to build.
pub fn plan(dockerfile: Dockerfile, request: &BuildRequest, selection: Selection) -> Result<Plan, BuildError> {
    let platform = target_platform(request)?;
    let target = target_stage(&dockerfile, request.target.as_deref())?;
    let stage_name = dockerfile.stages[target].from.name.clone();
    let mut args = BuildArgs::new(
        request.build_args.clone(),
        &platform,
        stage_name.as_deref().unwrap_or(""),
    );
    let escape = dockerfile.directives.escape;
    declare_globals(&dockerfile, escape, &mut args)?;
    let mut stages = Vec::new();
    for (index, stage) in dockerfile.stages.into_iter().enumerate().take(target + 1) {
        stages.push(plan_stage(index, stage, escape, &args, &stages)?);
    }
    add_labels(request, &mut stages);
    if selection == Selection::Needed {
        keep_needed(&mut stages);
    }
    let globals: Vec<String> = dockerfile
        .global_args
        .into_iter()
        .map(|global| global.original)
        .collect();
    let steps: usize = stages.iter().map(|stage| stage.steps.len() + 1).sum();
    Ok(Plan {
        total: globals.len() + steps,
        globals,
        stages,
        platform,
        escape,
        args,
    })
}

impl Plan {
    /// The plan as text, for tests and `--call`-like questions.
    pub fn describe(&self) -> String {
        let mut text = format!("{} steps\n", self.total);
        for global in &self.globals {
            let _ = writeln!(text, "global {global}");
        }
        for stage in &self.stages {
            let name = stage.name.as_deref().unwrap_or("-");
            let _ = writeln!(text, "stage {} {name} on {:?}", stage.index, stage.base);
            for step in &stage.steps {
                let _ = writeln!(text, "  {} {}", step.line, step.original);
            }
        }
        text
    }
}

/// The platform asked for, the host's when none is.
fn target_platform(request: &BuildRequest) -> Result<Platform, BuildError> {
    let Some(text) = request.platform.as_deref().filter(|text| !text.is_empty()) else {
        return Ok(Platform::host());
    };
    Platform::parse(text)
        .map_err(|error| BuildError::invalid(format!("invalid platform \"{text}\": {error}")).with_source(error))
}

/// Position of the stage to end with.
fn target_stage(dockerfile: &Dockerfile, target: Option<&str>) -> Result<usize, BuildError> {
    let last = dockerfile.stages.len() - 1;
    let Some(target) = target.filter(|target| !target.is_empty()) else {
        return Ok(last);
    };
    let lower = target.to_lowercase();
    let by_name = dockerfile
        .stages
        .iter()
        .position(|stage| stage.from.name.as_deref() == Some(&lower));
    let by_index = || target.parse().ok().filter(|index| *index <= last);
    by_name
        .or_else(by_index)
        .ok_or_else(|| BuildError::invalid(format!("target stage \"{target}\" could not be found")))
}

/// Declares the `ARG`s before the first `FROM`; each sees those before it.
fn declare_globals(dockerfile: &Dockerfile, escape: char, args: &mut BuildArgs) -> Result<(), BuildError> {
    for global in &dockerfile.global_args {
        let lookup = args.clone();
        let value = |name: &str| lookup.global_value(name);
        let arg = global
            .arg
            .expand(&Expander::new(escape, &value))
            .map_err(|error| error.on_line(global.line))?;
        for (name, default) in arg.declared {
            args.declare_global(&name, default);
        }
    }
    Ok(())
}

/// Resolves what one stage is built on and where its files come from.
fn plan_stage(
    index: usize,
    stage: Stage,
    escape: char,
    args: &BuildArgs,
    earlier: &[PlannedStage],
) -> Result<PlannedStage, BuildError> {
    let value = |name: &str| args.global_value(name);
    let expander = Expander::new(escape, &value);
    let written = &stage.from.base;
    let on_line = |error: BuildError| error.on_line(stage.line);
    let base = expander.word(written).map_err(on_line)?;
    if base.is_empty() {
        return Err(on_line(BuildError::invalid(format!(
            "base name ({written}) should not be blank"
        ))));
    }
    let platform = stage.from.platform.as_ref().map(|p| expander.word(p));
    Ok(PlannedStage {
        index,
        base: resolve_base(&base, earlier),
        name: stage.from.name,
        platform: platform.transpose().map_err(on_line)?,
        original: stage.original,
        steps: stage.steps,
    })
}

/// An earlier stage's name comes before an image's; numbers are image names here.
fn resolve_base(base: &str, earlier: &[PlannedStage]) -> Base {
    let lower = base.to_lowercase();
    let stage = earlier.iter().rev().find(|stage| stage.name.as_deref() == Some(&lower));
    match stage {
        Some(stage) => Base::Stage(stage.index),
        None if base == "scratch" => Base::Scratch,
        None => Base::Image(base.into()),
    }
}

/// What the value of `--from` means in the stage at `current`: a stage's name, its position, or an
/// image.
pub(crate) fn resolve_from(from: &str, current: usize, stages: &[PlannedStage]) -> Result<Base, BuildError> {
    let earlier: Vec<&PlannedStage> = stages.iter().filter(|s| s.index < current).collect();
    let lower = from.to_lowercase();
    let named = |stage: &&&PlannedStage| stage.name.as_deref() == Some(&lower);
    if let Some(stage) = earlier.iter().rev().find(named) {
        return Ok(Base::Stage(stage.index));
    }
    match from.parse::<usize>() {
        Ok(index) if earlier.iter().any(|stage| stage.index == index) => Ok(Base::Stage(index)),
        Ok(index) if index == current => Err(BuildError::invalid(format!(
            "invalid from flag value {from}: refers to current build block"
        ))),
        Ok(_) => Err(BuildError::invalid(format!(
            "invalid from flag value {from}: invalid stage index {from}"
        ))),
        Err(_) => Ok(Base::Image(from.into())),
    }
}

/// `--label` becomes a `LABEL` at the end of the last stage, one for each.
fn add_labels(request: &BuildRequest, stages: &mut [PlannedStage]) {
    let Some(last) = stages.last_mut() else {
        return;
    };
    for (name, value) in &request.labels {
        let label = Label {
            pairs: vec![(name.clone(), value.clone())],
            literal: true,
        };
        last.steps.push(Step {
            line: 0,
            original: label.describe(),
            instruction: Instruction::Label(label),
        });
    }
}

/// Drops the stages that the last one does not need. References whose names are only known while
/// building (they hold variables) keep every stage.
fn keep_needed(stages: &mut Vec<PlannedStage>) {
    let mut needed: Vec<bool> = vec![false; stages.len()];
    let mut open = vec![stages.len() - 1];
    while let Some(at) = open.pop() {
        if std::mem::replace(&mut needed[at], true) {
            continue;
        }
        let stage = &stages[at];
        if let Base::Stage(index) = stage.base {
            open.push(index);
        }
        for from in stage.steps.iter().flat_map(sources_of) {
            match resolve_from(from, stage.index, stages) {
                _ if from.contains('$') => open.extend(0..at),
                Ok(Base::Stage(index)) => open.push(index),
                _ => {}
            }
        }
    }
    let mut keep = needed.into_iter();
    stages.retain(|_| keep.next().unwrap_or(true));
}

/// Where a step takes files from, besides the context.
fn sources_of(step: &Step) -> Vec<&str> {
    match &step.instruction {
        Instruction::Copy(copy) => copy.from.as_deref().into_iter().collect(),
        Instruction::Run(run) => run.mounts.iter().filter_map(|m| m.from.as_deref()).collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dockerfile::parse;

    const MULTI: &str = "ARG BASE=busybox\nFROM $BASE AS first\nRUN a\nFROM ${BASE}:1 AS Unused\nRUN b\n\
        FROM scratch\nCOPY --from=first /f /g\nCOPY --from=0 /f /h\nFROM FIRST\nRUN c\n";

    fn decide(text: &str, request: &BuildRequest, selection: Selection) -> Result<String, String> {
        plan(parse(text).unwrap(), request, selection)
            .map(|plan| plan.describe())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn all_stages_up_to_the_target_are_built_in_order() {
        let request = BuildRequest {
            labels: [("k".into(), "v w".into())].into(),
            ..BuildRequest::default()
        };
        insta::assert_snapshot!(decide(MULTI, &request, Selection::UpToTarget).unwrap(), @r#"
        11 steps
        global ARG BASE=busybox
        stage 0 first on Image("busybox")
          3 RUN a
        stage 1 unused on Image("busybox:1")
          5 RUN b
        stage 2 - on Scratch
          7 COPY --from=first /f /g
          8 COPY --from=0 /f /h
        stage 3 - on Stage(0)
          10 RUN c
          0 LABEL k=v w
        "#);
    }

    #[test]
    fn a_selection_of_what_is_needed_skips_the_rest() {
        let request = BuildRequest {
            target: Some("2".into()),
            build_args: [("BASE".into(), Some("other".into()))].into(),
            ..BuildRequest::default()
        };
        insta::assert_snapshot!(decide(MULTI, &request, Selection::Needed).unwrap(), @r#"
        6 steps
        global ARG BASE=busybox
        stage 0 first on Image("other")
          3 RUN a
        stage 2 - on Scratch
          7 COPY --from=first /f /g
          8 COPY --from=0 /f /h
        "#);
    }

    #[test]
    fn wrong_targets_bases_and_platforms_are_named() {
        let ask = |text: &str, target: &str, platform: &str| {
            let request = BuildRequest {
                target: Some(target.into()),
                platform: Some(platform.into()),
                ..BuildRequest::default()
            };
            decide(text, &request, Selection::UpToTarget).unwrap_err()
        };
        assert_eq!(ask(MULTI, "nosuch", ""), "target stage \"nosuch\" could not be found");
        assert_eq!(ask(MULTI, "9", ""), "target stage \"9\" could not be found");
        assert_eq!(
            ask("FROM $NONE", "", ""),
            "dockerfile parse error on line 1: base name ($NONE) should not be blank"
        );
        assert!(ask(MULTI, "", "a/b/c/d").contains("invalid platform \"a/b/c/d\""));
    }

    #[test]
    fn a_stage_refers_only_to_earlier_ones() {
        let plan = plan(parse(MULTI).unwrap(), &BuildRequest::default(), Selection::UpToTarget).unwrap();
        let from = |text, at| resolve_from(text, at, &plan.stages).map_err(|e| e.to_string());
        assert_eq!(from("First", 2), Ok(Base::Stage(0)));
        assert_eq!(from("1", 2), Ok(Base::Stage(1)));
        assert_eq!(from("first", 0), Ok(Base::Image("first".into())));
        assert!(from("2", 2).unwrap_err().contains("refers to current build block"));
        assert!(from("7", 2).unwrap_err().contains("invalid stage index 7"));
    }
}
