"""How the threads of one call share work and wait for each other, as LLVM IR that asks nothing of the system.

All threads run the same function. Where one needs what another made they meet: a thread counts itself in and waits for
the generation to change, which the last one does. It spins for some microseconds and then calls, again and again, the
function whose address the host left in the meeting place, to yield the processor; without one it spins on.

The meeting place is MEETING_BYTES of memory, zero before the first call: who has arrived, the generation, the address
of a function without arguments, each in a cache line of its own.

Between calls a helper is in `attend`: it looks at its slot and runs what it is told of there. It stays until it has
served as many calls, all told, as are promised in the slot, and has then looked `looks` times in vain. `lead` tells the
helpers, whose slots are a chain, and runs the share of the first thread. Both are the same in all programs; a host may
use those of any.
"""

from __future__ import annotations

from graphc.backends.interface import GENERATION, SERVED, SLOT_WORDS, YIELD

SPINS = 300  # looks at the generation before the processor is yielded: some ten microseconds

MEET = f"""
declare void @spin_hint()

define internal void @meet(ptr %meeting, i64 %threads) noinline nounwind "no-builtins" {{
entry:
  %alone = icmp sle i64 %threads, 1
  br i1 %alone, label %done, label %arrive
arrive:
  %generation = getelementptr inbounds i8, ptr %meeting, i64 {GENERATION}
  %before = load atomic i64, ptr %generation acquire, align 8
  %earlier = atomicrmw add ptr %meeting, i64 1 acq_rel, align 8
  %arrived = add i64 %earlier, 1
  %last = icmp eq i64 %arrived, %threads
  br i1 %last, label %release, label %wait
release:
  store atomic i64 0, ptr %meeting monotonic, align 8
  %after = add i64 %before, 1
  store atomic i64 %after, ptr %generation release, align 8
  br label %done
wait:
  %looks = phi i64 [ 0, %arrive ], [ %more, %spin ], [ {SPINS}, %yield ]
  %now = load atomic i64, ptr %generation acquire, align 8
  %open = icmp ne i64 %now, %before
  br i1 %open, label %done, label %closed
closed:
  %patient = icmp slt i64 %looks, {SPINS}
  br i1 %patient, label %spin, label %ask
ask:
  %slot = getelementptr inbounds i8, ptr %meeting, i64 {YIELD}
  %function = load ptr, ptr %slot, align 8
  %none = icmp eq ptr %function, null
  br i1 %none, label %spin, label %yield
spin:
  call void @spin_hint()
  %more = add i64 %looks, 1
  br label %wait
yield:
  %ignored = call i32 %function()
  br label %wait
done:
  ret void
}}
"""

# Where part number `part` of `parts` begins: at a whole number of units, or at the extent.
SHARE = """
define internal i64 @share(i64 %extent, i64 %unit, i64 %part, i64 %parts) alwaysinline nounwind {
  %most = sub i64 %unit, 1
  %reach = add i64 %extent, %most
  %units = udiv i64 %reach, %unit
  %scaled = mul i64 %units, %part
  %first = udiv i64 %scaled, %parts
  %begin = mul i64 %first, %unit
  %held = call i64 @llvm.smin.i64(i64 %begin, i64 %extent)
  ret i64 %held
}
"""

_PLACES = "\n".join(
    f"  %{name}.at = getelementptr inbounds i64, ptr %slot, i64 {number}" for number, name in enumerate(SLOT_WORDS)
)

ATTEND = f"""
define i64 @attend(ptr %slot, i64 %looks) nounwind "no-builtins" {{
entry:
{_PLACES}
  %served.at = getelementptr inbounds i8, ptr %slot, i64 {SERVED}
  %first = load i64, ptr %served.at, align 8
  br label %wait
wait:
  %served = phi i64 [ %first, %entry ], [ %ticket, %work ], [ %served, %spin ]
  %vain = phi i64 [ 0, %entry ], [ 0, %work ], [ %more, %spin ]
  %ticket = load atomic i64, ptr %slot acquire, align 8
  %told = icmp ne i64 %ticket, %served
  br i1 %told, label %work, label %nothing
work:
  %function = load ptr, ptr %function.at, align 8
  %call = load ptr, ptr %call.at, align 8
  %thread = load i64, ptr %thread.at, align 8
  %threads = load i64, ptr %threads.at, align 8
  %status = call i32 %function(ptr %call, i64 %thread, i64 %threads)
  store atomic i64 %ticket, ptr %served.at release, align 8
  br label %wait
nothing:
  %promised = load atomic i64, ptr %promised.at monotonic, align 8
  %due = icmp slt i64 %served, %promised
  %hopeful = icmp slt i64 %vain, %looks
  %stays = or i1 %due, %hopeful
  br i1 %stays, label %stay, label %leave
stay:
  %long = icmp sge i64 %vain, {SPINS}
  %late = and i1 %due, %long
  br i1 %late, label %ask, label %spin
ask:
  %yield = load ptr, ptr %yield.at, align 8
  %none = icmp eq ptr %yield, null
  br i1 %none, label %spin, label %let
let:
  %ignored = call i32 %yield()
  br label %spin
spin:
  call void @spin_hint()
  %more = add i64 %vain, 1
  br label %wait
leave:
  ret i64 %served
}}
"""

LEAD = f"""
define i32 @lead(ptr %function, ptr %call, i64 %threads, ptr %chain) nounwind "no-builtins" {{
entry:
  br label %next
next:
  %thread = phi i64 [ 1, %entry ], [ %following, %tell ]
  %slot = phi ptr [ %chain, %entry ], [ %others, %tell ]
  %more = icmp slt i64 %thread, %threads
  br i1 %more, label %tell, label %work
tell:
{_PLACES}
  store ptr %function, ptr %function.at, align 8
  store ptr %call, ptr %call.at, align 8
  store i64 %thread, ptr %thread.at, align 8
  store i64 %threads, ptr %threads.at, align 8
  %before = load i64, ptr %ticket.at, align 8
  %ticket = add i64 %before, 1
  store atomic i64 %ticket, ptr %ticket.at release, align 8
  %others = load ptr, ptr %next.at, align 8
  %following = add i64 %thread, 1
  br label %next
work:
  %status = call i32 %function(ptr %call, i64 0, i64 %threads)
  ret i32 %status
}}
"""
