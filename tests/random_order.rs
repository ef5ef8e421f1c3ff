//! Random programs on one serial bus against a sequential model of its order: what starts after what, to the last handler.
//!
//! `THREADBUS_PROGRAMS=100000 cargo test --release --test random_order`. A program that differs is made smaller, step by step, and printed
//! with its seed (`THREADBUS_SEED`).
#![cfg(not(threadbus_shuttle))]

#[path = "common/random.rs"]
mod random;

use random::Random;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use threadbus::*;

/// What one handler does, in order.
#[derive(Clone, Debug)]
enum Step {
    Emit(Node),
    EmitAndWait(Node),
    EmitNow(Node),
    Fail,
    Panic,
}

/// An event: its priority, and what each of the bus's handlers does with it.
#[derive(Clone, Debug)]
struct Node {
    name: u32,
    priority: u8,
    handlers: [Vec<Step>; 2],
}

struct Run(Arc<Node>);
impl Payload for Run {
    type Output = ();
}

impl Random {
    fn node(&mut self, depth: u32, names: &mut u32) -> Node {
        *names += 1;
        let (name, priority) = (*names, if self.below(3) == 0 { self.below(11) as u8 } else { 5 });
        let handlers = std::array::from_fn(|_| {
            let steps = if depth == 0 { 0 } else { self.below(3) };
            (0..steps).map(|_| self.step(depth - 1, names)).collect()
        });
        Node { name, priority, handlers }
    }

    fn step(&mut self, depth: u32, names: &mut u32) -> Step {
        match self.below(10) {
            0..=2 => Step::Emit(self.node(depth, names)),
            3..=6 => Step::EmitAndWait(self.node(depth, names)),
            7 => Step::EmitNow(self.node(depth, names)),
            8 => Step::Fail,
            _ => Step::Panic,
        }
    }
}

/// Each entry is the start of a handler: event and handler.
type Order = Vec<(u32, usize)>;

// The bus.

fn on_the_bus(roots: &[Node]) -> Order {
    let bus = EventBus::builder("order").max_history(None).build().unwrap();
    let order = Arc::new(Mutex::new(Order::new()));
    for handler in 0..2 {
        let order = Arc::clone(&order);
        bus.on(move |run: &Event<Run>| -> Result<(), HandlerError> {
            order.lock().unwrap().push((run.0.name, handler));
            let bus = run.bus();
            for step in &run.0.handlers[handler] {
                match step {
                    Step::Emit(node) => drop(emit(&bus, node)),
                    Step::EmitAndWait(node) => drop(emit(&bus, node).wait()?),
                    Step::EmitNow(node) => drop(bus.emit_now_with(Run(Arc::new(node.clone())), options(node))),
                    Step::Fail => return Err("on purpose".into()),
                    Step::Panic => std::panic::resume_unwind(Box::new("on purpose")),
                }
            }
            Ok(())
        });
    }
    // All roots are there before the first starts.
    bus.pause();
    roots.iter().for_each(|root| drop(emit(&bus, root)));
    bus.resume();
    bus.wait_until_idle_timeout(Duration::from_secs(30)).unwrap();
    std::mem::take(&mut *order.lock().unwrap())
}

fn options(node: &Node) -> EventOptions {
    EventOptions::new().priority(Priority::new(node.priority).unwrap())
}

fn emit(bus: &EventBus, node: &Node) -> Event<Run> {
    bus.emit_with(Run(Arc::new(node.clone())), options(node))
}

// The model.

struct Known<'a> {
    node: &'a Node,
    queued: bool,
    children: Vec<usize>,
}

#[derive(Default)]
struct Model<'a> {
    events: Vec<Known<'a>>,
    lanes: [VecDeque<usize>; 11],
    order: Order,
}

impl<'a> Model<'a> {
    fn order(roots: &'a [Node]) -> Order {
        let mut model = Model::default();
        for root in roots {
            model.emit(root, None, true);
        }
        while let Some(next) = model.lanes.iter_mut().rev().find_map(VecDeque::pop_front) {
            if model.events[next].queued {
                model.run(next);
            }
        }
        model.order
    }

    fn emit(&mut self, node: &'a Node, parent: Option<usize>, queued: bool) -> usize {
        let event = self.events.len();
        self.events.push(Known { node, queued, children: Vec::new() });
        if let Some(parent) = parent {
            self.events[parent].children.push(event);
        }
        if queued {
            self.lanes[node.priority as usize].push_back(event);
        }
        event
    }

    fn run(&mut self, event: usize) {
        self.events[event].queued = false;
        let node = self.events[event].node;
        for (handler, steps) in node.handlers.iter().enumerate() {
            self.order.push((node.name, handler));
            for step in steps {
                match step {
                    Step::Emit(node) => drop(self.emit(node, Some(event), true)),
                    Step::EmitAndWait(node) => {
                        let child = self.emit(node, Some(event), true);
                        self.wait(child);
                    }
                    Step::EmitNow(node) => {
                        let child = self.emit(node, Some(event), false);
                        self.run(child);
                    }
                    Step::Fail | Step::Panic => break,
                }
            }
        }
    }

    /// The event runs now, and then whatever is left of what it has emitted, in rounds.
    fn wait(&mut self, event: usize) {
        loop {
            let mut queued = Vec::new();
            self.queued_below(event, &mut queued);
            if queued.is_empty() {
                return;
            }
            queued.into_iter().for_each(|event| self.run(event));
        }
    }

    fn queued_below(&self, event: usize, found: &mut Vec<usize>) {
        if self.events[event].queued {
            return found.push(event);
        }
        self.events[event].children.iter().for_each(|child| self.queued_below(*child, found));
    }
}

// Making a program smaller.

/// All programs with one step or one root less.
fn smaller(roots: &[Node]) -> Vec<Vec<Node>> {
    let mut all = Vec::new();
    for at in 0..roots.len() {
        let mut fewer = roots.to_vec();
        fewer.remove(at);
        all.push(fewer);
        for node in smaller_nodes(&roots[at]) {
            let mut changed = roots.to_vec();
            changed[at] = node;
            all.push(changed);
        }
    }
    all
}

fn smaller_nodes(node: &Node) -> Vec<Node> {
    let mut all = Vec::new();
    for (handler, steps) in node.handlers.iter().enumerate() {
        for (at, step) in steps.iter().enumerate() {
            let mut fewer = node.clone();
            fewer.handlers[handler].remove(at);
            all.push(fewer);
            let (Step::Emit(inner) | Step::EmitAndWait(inner) | Step::EmitNow(inner)) = step else { continue };
            for inner in smaller_nodes(inner) {
                let mut changed = node.clone();
                match &mut changed.handlers[handler][at] {
                    Step::Emit(n) | Step::EmitAndWait(n) | Step::EmitNow(n) => *n = inner,
                    Step::Fail | Step::Panic => {}
                }
                all.push(changed);
            }
        }
    }
    all
}

fn shrink(mut roots: Vec<Node>, fails: impl Fn(&[Node]) -> bool) -> Vec<Node> {
    while let Some(less) = smaller(&roots).into_iter().find(|less| fails(less)) {
        roots = less;
    }
    roots
}

#[test]
fn programs_run_in_the_order_of_the_model() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|n| n.parse().ok()).unwrap_or(default);
    let first = number("THREADBUS_SEED", 1);
    for seed in first..first + number("THREADBUS_PROGRAMS", 2_000) {
        let mut random = Random::new(seed);
        let mut names = 0;
        let roots: Vec<Node> = (0..1 + random.below(4)).map(|_| random.node(4, &mut names)).collect();
        let differs = |roots: &[Node]| on_the_bus(roots) != Model::order(roots);
        if differs(&roots) {
            let roots = shrink(roots, differs);
            let (bus, model) = (on_the_bus(&roots), Model::order(&roots));
            panic!("seed {seed}: the bus {bus:?}, the model {model:?}, for {roots:#?}");
        }
    }
}

#[test]
fn a_program_is_made_as_small_as_what_fails_of_it() {
    let mut names = 0;
    let mut random = Random::new(4711);
    let panics = |roots: &[Node]| format!("{roots:?}").contains("Panic");
    let roots: Vec<Node> = std::iter::repeat_with(|| random.node(4, &mut names))
        .filter(|node| panics(std::slice::from_ref(node)))
        .take(1)
        .collect();
    let small = shrink(roots, panics);
    assert_eq!(small.iter().flat_map(|node| &node.handlers).map(Vec::len).sum::<usize>(), 1, "{small:?}");
}
