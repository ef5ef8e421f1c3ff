//! The game's state and its rules: a player who collects coins on a map with walls, and a hunter who follows paths.

/// Cells of the map, on each side.
pub(crate) const SIZE: i32 = 64;
/// Parts of a cell: positions are whole numbers, so that a game is the same on every machine.
pub(crate) const CELL: i32 = 256;
const COINS: usize = 160;
const SPEED: i32 = 48;
const HUNTER_SPEED: i32 = 40;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Cell {
    pub(crate) x: i32,
    pub(crate) y: i32,
}

impl Cell {
    pub(crate) fn neighbours(self) -> [Cell; 4] {
        [(1, 0), (0, 1), (-1, 0), (0, -1)].map(|(x, y)| Cell { x: self.x + x, y: self.y + y })
    }
}

/// A place, in parts of a cell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) x: i32,
    pub(crate) y: i32,
}

impl Place {
    pub(crate) fn cell(self) -> Cell {
        Cell { x: self.x.div_euclid(CELL), y: self.y.div_euclid(CELL) }
    }

    fn middle_of(cell: Cell) -> Place {
        Place { x: cell.x * CELL + CELL / 2, y: cell.y * CELL + CELL / 2 }
    }

    /// No further than `step` towards `goal`.
    fn towards(self, goal: Place, step: i32) -> Place {
        let near = |from: i32, to: i32| from + (to - from).clamp(-step, step);
        Place { x: near(self.x, goal.x), y: near(self.y, goal.y) }
    }
}

/// The walls; shared with the threads that look for paths.
#[derive(Debug)]
pub(crate) struct Map {
    walls: Vec<bool>,
}

impl Map {
    pub(crate) fn new(random: &mut Random) -> Map {
        let walls = (0..SIZE * SIZE).map(|_| random.below(8) == 0).collect();
        Map { walls }
    }

    pub(crate) fn is_free(&self, cell: Cell) -> bool {
        let inside = (0..SIZE).contains(&cell.x) && (0..SIZE).contains(&cell.y);
        inside && !self.walls[(cell.y * SIZE + cell.x) as usize]
    }

    pub(crate) fn free_cell(&self, random: &mut Random) -> Cell {
        loop {
            let cell = Cell { x: random.below(SIZE as u32) as i32, y: random.below(SIZE as u32) as i32 };
            if self.is_free(cell) {
                return cell;
            }
        }
    }
}

/// What the player runs into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    Wall,
    Coin(usize),
    Hunter,
}

#[derive(Debug)]
pub(crate) struct World {
    pub(crate) player: Place,
    pub(crate) hunter: Place,
    direction: Cell,
    coins: Vec<Cell>,
    path: Vec<Cell>,
    /// The next path, and the tick from which on to follow it.
    plan: Option<(u64, Vec<Cell>)>,
    random: Random,
    pub(crate) score: i64,
    pub(crate) caught: u32,
}

impl World {
    pub(crate) fn new(map: &Map, mut random: Random) -> World {
        let player = Place::middle_of(map.free_cell(&mut random));
        let hunter = Place::middle_of(map.free_cell(&mut random));
        let coins = (0..COINS).map(|_| map.free_cell(&mut random)).collect();
        World {
            player,
            hunter,
            direction: Cell { x: 1, y: 0 },
            coins,
            path: Vec::new(),
            plan: None,
            random,
            score: 0,
            caught: 0,
        }
    }

    pub(crate) fn steer(&mut self, direction: Cell) {
        self.direction = direction;
    }

    /// A better path for the hunter, from a tick on.
    pub(crate) fn plan(&mut self, since: u64, path: Vec<Cell>) {
        self.plan = Some((since, path));
    }

    /// What lies behind the hunter already is left out.
    fn follow(&mut self, path: &[Cell]) {
        let here = self.hunter.cell();
        let from = path.iter().position(|cell| *cell == here).map_or(0, |at| at + 1);
        self.path = path[from..].iter().rev().copied().collect();
    }

    /// Moves everybody by one tick; what the player ran into.
    pub(crate) fn step(&mut self, tick: u64, map: &Map) -> Vec<Hit> {
        if let Some((_, path)) = self.plan.take_if(|(since, _)| *since <= tick) {
            self.follow(&path);
        }
        let mut hits = Vec::new();
        let next = Place { x: self.player.x + self.direction.x * SPEED, y: self.player.y + self.direction.y * SPEED };
        if map.is_free(next.cell()) {
            self.player = next;
        } else {
            hits.push(Hit::Wall);
        }
        if let Some(goal) = self.path.last().copied().map(Place::middle_of) {
            self.hunter = self.hunter.towards(goal, HUNTER_SPEED);
            if self.hunter == goal {
                self.path.pop();
            }
        }
        let here = self.player.cell();
        hits.extend(self.coins.iter().position(|coin| *coin == here).map(Hit::Coin));
        if self.hunter.cell() == here {
            hits.push(Hit::Hunter);
        }
        hits
    }

    /// What a collision changes, and what it is worth.
    pub(crate) fn collide(&mut self, hit: Hit, map: &Map) -> i64 {
        match hit {
            Hit::Wall => 0,
            Hit::Coin(at) => {
                self.coins[at] = map.free_cell(&mut self.random);
                10
            }
            Hit::Hunter => {
                self.caught += 1;
                self.path.clear();
                self.plan = None;
                self.hunter = Place::middle_of(map.free_cell(&mut self.random));
                -25
            }
        }
    }
}

/// Small, and the same everywhere (xorshift).
#[derive(Clone, Debug)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    pub(crate) fn below(&mut self, limit: u32) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (((self.0 >> 32) * u64::from(limit)) >> 32) as u32
    }
}
