package main

import (
	"context"
	"errors"
)

func (b *bench) prepareIotoll(ctx context.Context) (string, error) {
	return "", errors.New("not yet")
}
