FIXTURES, HAS = {}, {}
