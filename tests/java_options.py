"""How the Java processes of tests compile and collect garbage; measured in processor time on two cores."""

# The second compiler earns what it costs after some hundred batches, and with fewer methods than it would
# take by itself: it was a third of the processor time of 250 tests. A young generation with room for the
# garbage of a batch halves the time of collecting.
_LATE = {
    "Tier4InvocationThreshold": 25_000,
    "Tier4MinInvocationThreshold": 3_000,
    "Tier4CompileThreshold": 75_000,
    "Tier4BackEdgeThreshold": 200_000,
}
FOR_A_WHOLE_RUN = " ".join(
    ("-XX:+UseSerialGC -XX:NewRatio=1", *(f"-XX:{name}={calls}" for name, calls in _LATE.items()))
)
# In a process that lives for seconds, or waits most of its time, it never does.
FOR_ONE_TEST = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
