"""spark-submit … jobs/stream.py --config CONFIG: the same as `cdc-sink run CONFIG`."""

from cdc_sink.jobs.stream import main

if __name__ == "__main__":
    main()
