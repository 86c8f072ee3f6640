"""From records to numbers with intervals, and from these to a policy. Values in, values out; never on the path of a
request. The standard library is enough: sums per group in one pass, intervals in closed form."""
