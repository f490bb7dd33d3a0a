"""One API call: the parts that the pipeline of every call is made of."""
