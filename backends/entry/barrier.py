"""How the threads of one call share work and wait for each other, as LLVM IR that asks nothing of the system.

All threads run the same function. Where one needs what another made they meet: a thread counts itself in and waits for
the generation to change, which the last one does. It spins for some microseconds and then calls, again and again, the
function whose address the host left in the meeting place, to yield the processor; without one it spins on.

The meeting place is MEETING_BYTES of memory, zero before the first call: who has arrived, the generation, the address
of a function without arguments, each in a cache line of its own.
"""

from __future__ import annotations

from graphc.backends.interface import GENERATION, YIELD

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
  %function = load ptr, ptr %slot
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
