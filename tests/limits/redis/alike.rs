//! Counting in memory and in Redis decides alike.

use super::*;

/// One step of the comparison.
#[derive(Debug, Clone)]
enum Step {
    Ask {
        caller: usize,
        tokens: u64,
        pixels: u64,
    },
    Settle {
        which: usize,
        used: u64,
    },
    Leave {
        which: usize,
    },
    Pass {
        micros: u64,
    },
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0usize..3, 0u64..700, 0u64..400)
            .prop_map(|(caller, tokens, pixels)| Step::Ask { caller, tokens, pixels }),
        3 => (any::<usize>(), 0u64..800).prop_map(|(which, used)| Step::Settle { which, used }),
        3 => any::<usize>().prop_map(|which| Step::Leave { which }),
        3 => (0u64..30_000_000).prop_map(|micros| Step::Pass { micros }),
        1 => (0u64..90_000_000_000).prop_map(|micros| Step::Pass { micros }),
    ]
}

struct Side {
    limiter: Arc<Limiter>,
    inside: Vec<(Entry, Option<(Reservation, u64)>)>,
}

type Decision = Option<(What, Option<String>, u64, Option<Duration>)>;

impl Side {
    async fn ask(&mut self, caller: &Arc<Caller>, cost: Cost) -> Decision {
        let decided = async {
            let entry = self.limiter.enter(caller).await?;
            let reserved = entry.reserve("demo", cost).await?;
            Ok((entry, Some((reserved, cost.tokens))))
        };
        let decided = decided.await;
        self.limiter.flush().await;
        match decided {
            Ok(inside) => {
                self.inside.push(inside);
                None
            }
            Err(refused) => {
                let refused: porthole::limits::Exceeded = refused;
                Some((
                    refused.what,
                    refused.model,
                    refused.limit,
                    refused.retry_after,
                ))
            }
        }
    }

    async fn take(&mut self, step: &Step) {
        let len = self.inside.len().max(1);
        match step {
            Step::Settle { which, used } => {
                let Some((_, reservation)) = self.inside.get_mut(which % len) else {
                    return;
                };
                // Every fourth is dropped instead.
                if let Some((reservation, _)) = reservation.take()
                    && used % 4 > 0
                {
                    reservation.settle(*used);
                }
            }
            Step::Leave { which } => {
                if !self.inside.is_empty() {
                    drop(self.inside.swap_remove(which % len));
                }
            }
            Step::Ask { .. } | Step::Pass { .. } => {}
        }
        self.limiter.flush().await;
    }
}

fn compared_callers() -> [Arc<Caller>; 3] {
    let limits = |requests, tokens, day| Limits {
        requests_per_minute: Some(requests),
        tokens_per_minute: Some(tokens),
        concurrent_requests: Some(4),
        image_pixels_per_minute: Some(997),
        tokens_per_day: Some(day),
        tokens_per_month: Some(day * 3),
        tokens_total: Some(day * 10),
    };
    let key = plain("key:a", limits(17, 1_333, 4_000));
    let parent = Arc::new(key.clone());
    let mut minted = plain("jwt:porthole#x", limits(7, 700, 3_000));
    minted.parent = Some(parent);
    let mut of_model = plain("key:b", Limits::default());
    of_model
        .rights
        .model_limits
        .insert("demo".into(), limits(11, 1_000, 2_000));
    [key, minted, of_model].map(Arc::new)
}

#[test]
fn memory_and_redis_decide_alike() {
    let server = RedisServer::start();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let mut runner = TestRunner::new(Config {
        cases: 48,
        failure_persistence: None,
        ..Config::default()
    });
    let steps = prop::collection::vec(step(), 1..80);
    let result = runner.run(&steps, |steps| {
        server.query::<()>(&redis::cmd("FLUSHALL"));
        let clock = ManualClock::new();
        let mut config = server.config(OnRedisError::Deny);
        let side = |config| Side {
            limiter: on_clock(config, &clock),
            inside: Vec::new(),
        };
        let mut models = in_memory();
        models.models = vec![ModelLimits {
            model: "demo".into(),
            limits: Limits {
                tokens_per_minute: Some(900),
                ..Limits::default()
            },
        }];
        config.models.clone_from(&models.models);
        let (mut here, mut there) = (side(&models), side(&config));
        let callers = compared_callers();
        runtime.block_on(async {
            for step in steps {
                match &step {
                    Step::Ask {
                        caller,
                        tokens,
                        pixels,
                    } => {
                        let cost = Cost {
                            tokens: *tokens,
                            pixels: *pixels,
                        };
                        let one = here.ask(&callers[*caller], cost).await;
                        let two = there.ask(&callers[*caller], cost).await;
                        prop_assert_eq!(one, two, "{:?}", step);
                    }
                    Step::Pass { micros } => {
                        clock.advance(Duration::from_micros(*micros));
                        // As the replica does all the time.
                        there.limiter.flush().await;
                    }
                    Step::Settle { .. } | Step::Leave { .. } => {
                        here.take(&step).await;
                        there.take(&step).await;
                    }
                }
            }
            Ok(())
        })
    });
    result.unwrap();
}
