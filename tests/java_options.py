"""How the Java processes of tests compile and collect garbage; measured in processor time on two cores."""

# After some sixty tests the second compiler has earned what it cost: from then on a test takes three quarters
# of the time. A young generation with room for a batch's garbage halves the time of collecting.
FOR_A_WHOLE_RUN = "-XX:+UseSerialGC -XX:NewRatio=1 -XX:MinHeapFreeRatio=75 -XX:MaxHeapFreeRatio=90"
# In a process that lives for seconds, or waits most of its time, it never does.
FOR_ONE_TEST = "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC"
