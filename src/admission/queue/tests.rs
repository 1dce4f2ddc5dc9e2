use futures::FutureExt;

use super::*;

fn queue(length: usize) -> Arc<Queue> {
    let bounds = Bounds {
        length,
        bytes: 10_000,
        time: Duration::from_secs(60),
    };
    Queue::new(bounds, Gauge::default())
}

fn ticket(caller: &str) -> Ticket<'_> {
    Ticket {
        caller,
        class: 1,
        bytes: 1,
        cost: 10,
        width: 1,
    }
}

/// Who is let in, in order, when each leaves as soon as the next is wanted. Two slots are taken
/// first, so that everybody waits.
async fn order(queue: &Arc<Queue>, tickets: Vec<Ticket<'static>>) -> Vec<String> {
    let first = queue.enter(ticket("first")).await.unwrap();
    let second = queue.enter(ticket("second")).await.unwrap();
    let mut waiting: Vec<_> = tickets
        .into_iter()
        // tokio lets a task poll so often and no more before it must yield.
        .map(|ticket| Box::pin(tokio::task::unconstrained(queue.enter(ticket))))
        .collect();
    for future in &mut waiting {
        assert!(future.as_mut().now_or_never().is_none());
    }
    let mut inside = VecDeque::from([first, second]);
    let mut order = Vec::new();
    while !waiting.is_empty() {
        drop(inside.pop_front());
        let mut entered = None;
        for (at, future) in waiting.iter_mut().enumerate() {
            if let Some(slot) = future.as_mut().now_or_never() {
                assert!(entered.is_none(), "two were let in for one that left");
                entered = Some((at, slot.unwrap()));
            }
        }
        let (at, slot) = entered.expect("somebody is let in");
        drop(waiting.remove(at));
        order.push(slot.caller.clone());
        inside.push_back(slot);
    }
    order
}

#[tokio::test]
async fn a_caller_with_many_waiting_requests_does_not_delay_anothers_first() {
    let queue = queue(2_100);
    let mut tickets = vec![ticket("hog"); 1_000];
    tickets.push(ticket("guest"));
    let order = order(&queue, tickets).await;
    let at = order.iter().position(|name| name == "guest").unwrap();
    assert!(at <= 1, "the guest came as number {at}");
    let state = queue.lock();
    assert_eq!((state.inside, state.waiting), (0, 0));
    assert!(state.callers.is_empty());
}

#[tokio::test]
async fn callers_get_equal_work_not_equal_requests() {
    let queue = queue(1_000);
    let large = Ticket {
        cost: 40,
        ..ticket("large")
    };
    let mut tickets = vec![large; 20];
    tickets.extend(vec![ticket("small"); 80]);
    let order = order(&queue, tickets).await;
    let large = order[..50].iter().filter(|name| *name == "large").count();
    assert!((9..=11).contains(&large), "{large} of the first 50");
}

#[tokio::test]
async fn a_better_class_goes_first() {
    let queue = queue(100);
    let urgent = Ticket {
        class: 0,
        ..ticket("late")
    };
    let order = order(&queue, vec![ticket("a"), ticket("b"), urgent]).await;
    assert_eq!(order, ["late", "a", "b"]);
}

#[tokio::test]
async fn what_an_estimate_got_wrong_is_set_right() {
    let queue = queue(100);
    let liar = queue.enter(ticket("liar")).await.unwrap();
    let honest = queue.enter(ticket("honest")).await.unwrap();
    let mut next_liar = Box::pin(queue.enter(ticket("liar")));
    let mut next_honest = Box::pin(queue.enter(ticket("honest")));
    assert!((&mut next_liar).now_or_never().is_none());
    assert!((&mut next_honest).now_or_never().is_none());
    liar.worked(1_000);
    assert!((&mut next_liar).now_or_never().is_none());
    let honest_again = (&mut next_honest).now_or_never().unwrap();
    honest.worked(10);
    assert!((&mut next_liar).now_or_never().is_some());
    drop(honest_again);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once_and_a_newcomer_finds_room() {
    let queue = queue(4);
    let _inside = [
        queue.enter(ticket("hog")).await.unwrap(),
        queue.enter(ticket("hog")).await.unwrap(),
    ];
    let mut waiting: Vec<_> = (0..2)
        .map(|_| Box::pin(queue.enter(ticket("hog"))))
        .collect();
    for future in &mut waiting {
        assert!(future.as_mut().now_or_never().is_none());
    }
    let refused = queue.enter(ticket("hog")).now_or_never().unwrap();
    assert_eq!(refused.unwrap_err(), Full { retry_after: 1 });
    assert!(queue.enter(ticket("guest")).now_or_never().is_none());
    let heavy = Ticket {
        bytes: 9_999,
        ..ticket("heavy")
    };
    assert!(queue.enter(heavy).now_or_never().unwrap().is_err());
    drop(waiting);
    assert_eq!(queue.lock().waiting, 0);
    assert_eq!(queue.lock().bytes, 0);
}

#[tokio::test]
async fn a_wait_that_would_be_too_long_is_refused_with_the_measured_drain() {
    let queue = queue(1_000);
    let _inside = [
        queue.enter(ticket("a")).await.unwrap(),
        queue.enter(ticket("a")).await.unwrap(),
    ];
    queue.lock().interval = Some(10.0);
    let mut waiting = Vec::new();
    let refused = loop {
        let mut next = Box::pin(queue.enter(ticket("a")));
        match next.as_mut().now_or_never() {
            None => waiting.push(next),
            Some(refused) => break refused.unwrap_err(),
        }
    };
    // Six of ten seconds each fill the minute.
    assert_eq!(waiting.len(), 6);
    assert_eq!(refused.retry_after, 10);
    // Another's first would wait for one of the first caller's only.
    assert!(queue.enter(ticket("b")).now_or_never().is_none());
}

#[tokio::test]
async fn the_drain_is_measured_only_while_somebody_waits() {
    let queue = queue(10);
    drop(queue.enter(ticket("a")).await.unwrap());
    drop(queue.enter(ticket("a")).await.unwrap());
    assert_eq!(queue.lock().interval, None);
    let inside = [
        queue.enter(ticket("a")).await.unwrap(),
        queue.enter(ticket("a")).await.unwrap(),
    ];
    let mut next = Box::pin(queue.enter(ticket("a")));
    let mut last = Box::pin(queue.enter(ticket("a")));
    assert!((&mut next).now_or_never().is_none());
    assert!((&mut last).now_or_never().is_none());
    let [first, second] = inside;
    drop(first);
    drop(second);
    assert!(queue.lock().interval.is_some());
}
